"""A test file run as several processes (gloo, on this machine) that form one group."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def launch(file: str, world: int, folder: Path) -> list[Any]:
    """What `work`, as the file's main program passes it to `run`, returns in each process."""
    path = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, file, str(rank), str(world), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def run(work: Callable[[int, int], Any]) -> None:
    """In a process that `launch` started: call `work(rank, world)`, save what it returns, and end.

    The process ends without tearing the group down: torch's own threads sometimes abort it then.
    """
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=120),
    )
    torch.set_num_threads(1)
    torch.save(work(rank, world), folder / f"{rank}.pt")
    # Another one may still need this one's end of the connection, unless it has failed.
    end = time.monotonic() + 60
    while time.monotonic() < end and len([*folder.glob("*.pt")]) < world:
        time.sleep(0.05)
    os._exit(0)
