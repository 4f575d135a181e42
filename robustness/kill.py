"""Kill a run at random moments, resume it each time, and compare it with an uninterrupted run.

A child process trains and signals when it enters a randomly chosen part of the run; after a random
share of that part's duration it gets SIGKILL. Another child resumes. Weights, codebook, optimizer,
records, pictures and report of each finished run must equal those of the uninterrupted run, bit for
bit. The record is rewritten every twenty runs.

    python robustness/kill.py [--kills 1000] [--seed 0] [--out results/robustness]
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from outcome import outcome, report_of

from rotvq import run_folder
from rotvq.data_processing import ImageData, ImageSplit, load
from rotvq.files import TEMPORARY, write_json
from rotvq.quantization import Codebook
from rotvq.training import checkpoint, environment, lifecycle, trainer
from rotvq.training.config import Config, DataConfig, ModelConfig, QuantizerConfig, TrainingConfig
from rotvq.training.trainer import Trainer

CONFIG = Config(
    data=DataConfig(train_images=48, test_images=16),
    model=ModelConfig(width=8, dim=8, depth=1),
    quantizer=QuantizerConfig(codebook_size=32, init="data", restart=0.1, final_decay=0.999),
    training=TrainingConfig(
        epochs=4, batch_size=8, learning_rate=1e-3, schedule="cosine", ema_decay=0.9
    ),
)
PARTS: dict[str, tuple[Any, str]] = {
    "making the folder": (lifecycle, "prepare"),
    "describing the run": (Trainer, "_describe"),
    "resuming": (Trainer, "resume"),
    "choosing a checkpoint": (checkpoint, "settle"),
    "a step": (Codebook, "step"),
    "the record of an epoch": (trainer, "epoch_record"),
    "writing pictures": (trainer, "save_reconstructions"),
    "writing weights": (checkpoint, "save_weights"),
    "writing records": (run_folder, "write_epochs"),
    "writing a checkpoint": (checkpoint, "save"),
    "the evaluation": (trainer, "evaluate"),
    "writing the evaluation": (lifecycle, "write_json"),
}

REPORTS = 20
"""One run in so many is also compared by its report, which takes longer than the run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/robustness"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    data, draw = _images(), random.Random(options.seed)
    since, kills, runs, litter = time.monotonic(), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        durations = _durations(whole, data)
        expected = outcome(whole) | report_of(whole)
        while kills.total() < options.kills:
            folder = Path(place) / f"run_{runs}"
            while True:
                # One child in ten is not killed.
                part = draw.choice([*PARTS]) if draw.random() < 0.9 else None
                if not _killed(folder, data, part, draw, durations):
                    break
                assert part is not None
                kills[part] += 1
                litter += any(folder.rglob(TEMPORARY))
            found = outcome(folder)
            if runs % REPORTS == 0:
                found |= report_of(folder)
            different = [name for name in found if found[name] != expected[name]]
            if different:
                kept = shutil.move(folder, tempfile.mkdtemp())
                sys.exit(f"{kept} differs in {', '.join(different)}; killed in {dict(kills)}")
            shutil.rmtree(folder)
            runs += 1
            if runs % REPORTS == 0 or kills.total() >= options.kills:
                record = {
                    "what": "killed at random moments, every run ended bit-identical",
                    "kills": kills.total(),
                    "by_part": dict(kills.most_common()),
                    "half_written_files_met": litter,
                    "runs": runs,
                    "different": 0,
                    "seed": options.seed,
                    "seconds": round(time.monotonic() - since),
                    "hardware": environment.hardware(torch.device("cpu")),
                    "versions": environment.versions(),
                    "git": environment.git_state(),
                }
                options.out.mkdir(parents=True, exist_ok=True)
                write_json(options.out / "kill.json", record)
                print(f"{kills.total()} kills, {runs} runs: all bit-identical", flush=True)


def _images() -> ImageData:
    photos = load("embedded:photos")
    return ImageData(
        "photos", ImageSplit(photos.train.images[:48]), ImageSplit(photos.train.images[48:64])
    )


def _train(folder: Path, data: ImageData) -> None:
    run = Trainer(CONFIG, data, folder)
    if run_folder.is_run(folder):
        run.resume()
    else:
        run.begin()
    run.run()


def _durations(folder: Path, data: ImageData) -> dict[str, tuple[int, float]]:
    """How often an uninterrupted run enters each part, and the seconds it spends there.

    The finished run is resumed once, so that every part occurs.
    """
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        for part, (owner, name) in PARTS.items():
            setattr(owner, name, _timed(getattr(owner, name), times[part]))
        _train(folder, data)
        _train(folder, data)
        lines = (
            f"{part}\t{len(spent)}\t{sum(spent) / len(spent)}" for part, spent in times.items()
        )
        os.write(writer, "\n".join(lines).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        found = [line.rstrip().split("\t") for line in lines]
    assert os.waitpid(child, 0)[1] == 0
    return {part: (int(times), float(seconds)) for part, times, seconds in found}


def _timed(function: Any, spent: list[float]) -> Any:
    def timed(*args: Any, **kwargs: Any) -> Any:
        since = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - since)

    return timed


def _killed(
    folder: Path,
    data: ImageData,
    part: str | None,
    draw: random.Random,
    durations: dict[str, tuple[int, float]],
) -> bool:
    """Train in a child, and kill it in a part of the run; False if it finished."""
    times, seconds = durations[part] if part else (1, 0.0)
    times, delay = draw.randint(1, times), draw.uniform(0, 1.2 * seconds)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        # The parent reports the failure from the exit status.
        try:
            if part:
                owner, name = PARTS[part]
                setattr(owner, name, _signalling(getattr(owner, name), times, writer))
            _train(folder, data)
        except BaseException as error:
            print(f"{folder}: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as signal_from_child:
        select.select([signal_from_child], [], [])
        if signal_from_child.read(1):
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        sys.exit("a child failed")
    return False


def _signalling(function: Any, times: int, writer: int) -> Any:
    calls = 0

    def signalling(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == times:
            os.write(writer, b"!")
        return function(*args, **kwargs)

    return signalling


if __name__ == "__main__":
    main()
