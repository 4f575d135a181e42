"""Measure what share of a training step the synchronization of the codebook takes.

Starts several processes on this machine. They wait at a barrier before each collective, so that
only the communication is timed, not the wait for slower processes.

    python benchmarks/collectives.py [--processes 2] [--preset paper] [--out results/benchmarks]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timing import summary
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rotvq.files import write_json
from rotvq.quantization import Restart
from rotvq.training import environment
from rotvq.training.build import build_model
from rotvq.training.presets import PRESETS

STEPS, WARM = 12, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument(
        "--batch-size", type=int, default=128, help="images per step, summed over all processes"
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as place:
        mp.spawn(_process, (options, place), options.processes)
        steps, exchanges = torch.load(Path(place) / "times.pt")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    record = {
        "what": f"the codebook's collectives in a training step of the preset {options.preset}",
        "processes": options.processes,
        "backend": _backend(),
        "batch_size": options.batch_size,
        "seconds_a_step": summary(steps),
        "seconds_an_exchange": summary(exchanges),
        "share_of_a_step": summary([b / a for a, b in zip(steps, exchanges, strict=True)]),
        "hardware": environment.hardware(device),
        "versions": environment.versions(),
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"collectives_{options.preset}_{device.type}.json", record)
    share = record["share_of_a_step"]
    low, high = share["quartiles"]
    print(f"{share['median']:.2%} of step time (quartiles {low:.2%} to {high:.2%})")


def _backend() -> str:
    return "nccl" if torch.cuda.is_available() else "gloo"


def _process(rank: int, options: argparse.Namespace, place: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        _backend(), init_method=f"file://{place}/store", rank=rank, world_size=options.processes
    )
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.processes))
    model = build_model(PRESETS[options.preset]).to(device).to(memory_format=torch.channels_last)
    model.quantizer.defer_update = True
    codebook = model.quantizer.codebook
    codebook.restart = Restart()  # sends more data than without restarts
    codebook._reset_statistics()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a renamed argument in newer torch
        run = DistributedDataParallel(model, broadcast_buffers=False)
    x = torch.rand(options.batch_size // options.processes, 3, 32, 32, device=device) * 2 - 1
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, fused=True)
    steps, exchanges = [], []
    reduce = codebook._sum_over_processes

    def timed(*statistics: Tensor) -> tuple[Tensor, Tensor]:
        dist.barrier()
        since = _now(device)
        found = reduce(*statistics)
        exchanges.append(_now(device) - since)
        return found

    codebook._sum_over_processes = timed
    precision = environment.resolve_precision("auto", device)
    for _ in range(STEPS + WARM):
        since = _now(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss: Any = run(x).loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        model.quantizer.update_codebook()
        steps.append(_now(device) - since)
    if rank == 0:
        torch.save((steps[WARM:], exchanges[WARM:]), Path(place) / "times.pt")
    dist.destroy_process_group()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
