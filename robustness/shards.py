"""Kill rotvq encode --shard-size at random moments, run it again, and compare the shards.

One or two processes, drawn anew for each start, share the shards; one of them, or both, get SIGKILL
after a random time. The finished folder must equal that of an undisturbed run, byte for byte; no
finished shard may be written again; and the workers of a killed process must end.

    python robustness/shards.py [--kills 20] [--seed 0] [--out results/robustness]
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from rotvq.cli.main import main as rotvq
from rotvq.files import TEMPORARY, write_json
from rotvq.model import VQVAE
from rotvq.training import environment

IMAGES, SHARD_SIZE = 400, 50
Files = dict[str, tuple[bytes, int]]
"""Content and time of the last change of each file, by name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="with one and with two processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/robustness"))
    options = parser.parse_args()
    since = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        kills, runs, litter = killed_runs(Path(place), options.kills, options.seed)
    record = {
        "what": "shards of an encoder killed at random moments, all byte-identical",
        "kills": {f"{n} of {of}": count for (n, of), count in sorted(kills.items())},
        "half_written_files_met": litter,
        "runs": runs,
        "different": 0,
        "written_twice": 0,
        "seed": options.seed,
        "seconds": round(time.monotonic() - since),
        "hardware": environment.hardware(torch.device("cpu")),
        "versions": environment.versions(),
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "shards.json", record)
    print(f"{kills.total()} kills, {runs} runs: all byte-identical")


def killed_runs(place: Path, kills: int, seed: int) -> tuple[Counter[tuple[int, int]], int, int]:
    """Encode until so many starts with one and with two processes were killed.

    Returns:
        Kills by the number of processes killed and started, the number of finished runs, and how
        often a half-written file was left.

    Raises:
        AssertionError: a folder differs, a shard was written twice, or a process did not end.
    """
    torch.set_num_threads(1)
    draw = random.Random(seed)
    words = [str(write_source(place / "images.parquet")), "--model", str(write_model(place / "m"))]
    since = time.monotonic()
    start([*words, "-o", str(place / "whole")], [(0, 1)], None, draw)
    seconds = time.monotonic() - since
    expected = {name: content for name, (content, _) in files(place / "whole").items()}
    assert len(expected) == 2 * IMAGES // SHARD_SIZE + 1, "one image in each shard is damaged"
    done, runs, litter = Counter[tuple[int, int]](), 0, 0
    while min(sum(n for (_, of), n in done.items() if of == p) for p in (1, 2)) < kills:
        folder = place / f"run_{runs}"
        while True:
            before = files(folder)
            processes = draw.choice([1, 2])
            delay = draw.uniform(0, 1.2 * seconds) if draw.random() < 0.9 else None
            shares = [(rank, processes) for rank in range(processes)]
            killed = start([*words, "-o", str(folder)], shares, delay, draw)
            after = files(folder)
            again = [name for name in before if before[name] != after.get(name)]
            again = [name for name in again if name.endswith(".safetensors")]
            assert not again, f"{again} written twice"
            litter += any(folder.glob(TEMPORARY))
            if killed:
                done[killed, processes] += 1
            elif len(after) == len(expected):
                break
        found = {name: content for name, (content, _) in files(folder).items()}
        assert found == expected, f"{folder} differs after {done}"
        runs += 1
    return done, runs, litter


def start(
    words: list[str], shares: list[tuple[int, int]], delay: float | None, draw: random.Random
) -> int:
    """Encode in child processes and kill some; the number killed before they ended."""
    children = [_child(words, *share) for share in shares]
    if delay is not None:
        time.sleep(delay)
        workers = [each for child in children for each in _below(child)]
        for child in draw.sample(children, draw.randint(1, len(children))):
            os.kill(child, signal.SIGKILL)
    killed = 0
    for child in children:
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status), "a child failed"
    if delay is not None:
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive, f"{alive} outlived the process that started them"
    return killed


def _child(words: list[str], rank: int, processes: int) -> int:
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
    options = ["--shard-size", str(SHARD_SIZE), "--workers", "1"]
    sys.stdout = io.StringIO()
    sys.modules["__main__"] = ModuleType("__main__")  # workers need not import this file and torch
    os._exit(rotvq(["encode", *words, *options]))


def _below(process: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def files(folder: Path) -> Files:
    """The finished files of a folder."""
    found = [path for path in folder.glob("*") if not path.match(TEMPORARY)]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def write_source(path: Path) -> Path:
    """Images of two sizes with classes, in row groups of 70; one in 50 is damaged."""
    draw = np.random.default_rng(0)
    cells = []
    for number in range(IMAGES):
        stream = io.BytesIO()
        size = (16, 16) if number % 100 < 60 else (12, 20)
        Image.fromarray(draw.integers(0, 256, (*size, 3), np.uint8)).save(stream, "PNG")
        cells.append(b"damaged" if number % 50 == 7 else stream.getvalue())
    table = pa.table({"image": cells, "label": list(range(IMAGES))})
    pq.write_table(table, path, row_group_size=70)
    return path


def write_model(path: Path) -> Path:
    """An untrained model."""
    torch.manual_seed(0)
    VQVAE(width=8, dim=8, depth=1).save_pretrained(path)
    return path


if __name__ == "__main__":
    main()
