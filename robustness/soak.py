"""Train a tiny model for very many steps, and track memory, open files and threads.

python robustness/soak.py [--steps 200000] [--out results/robustness]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch

from rotvq.data_processing import ImageData, ImageSplit, load
from rotvq.files import write_json
from rotvq.training import environment
from rotvq.training.callbacks import Callback
from rotvq.training.config import Config, DataConfig, ModelConfig, QuantizerConfig, TrainingConfig
from rotvq.training.trainer import Trainer

STEPS_AN_EPOCH = 1000
SHORTEST = 4 * STEPS_AN_EPOCH
"""Steps of the shortest run whose growth can be measured: a sample in each quarter."""
BATCH = 4

GROWTH = 1.02
"""Largest growth of memory over the second half of the run that counts as flat."""


class _Sampler(Callback):
    """Samples the process after each epoch."""

    def __init__(self, samples: list[dict[str, Any]]) -> None:
        self.samples = samples

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        self.samples.append(_sample(record))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=Path("results/robustness"))
    options = parser.parse_args()
    if options.steps < SHORTEST:
        parser.error(f"--steps: expected {SHORTEST} or more; got {options.steps}.")

    torch.set_num_threads(1)
    since = time.monotonic()
    samples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        trainer = Trainer(_config(options.steps), _images(), Path(place) / "run")
        trainer.begin()
        trainer.run([_Sampler(samples)])
    record = {
        "what": "a long training run of a tiny model: resident memory, open files and threads",
        **_summary(samples),
        "samples": samples,
        "seconds": round(time.monotonic() - since),
        "hardware": environment.hardware(torch.device("cpu")),
        "versions": environment.versions(),
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "soak.json", record)
    print({name: record[name] for name in ("steps", "memory_mib", "growth", "files", "threads")})
    if record["growth"] > GROWTH or len(set(record["files"])) > 1:
        sys.exit("Memory or the number of open files grows.")


def _config(steps: int) -> Config:
    return Config(
        data=DataConfig(test_images=16),
        model=ModelConfig(width=8, dim=8, depth=1),
        quantizer=QuantizerConfig(codebook_size=32, init="data", restart=0.1),
        training=TrainingConfig(
            epochs=max(1, steps // STEPS_AN_EPOCH), batch_size=BATCH, ema_decay=0.99
        ),
    )


def _images() -> ImageData:
    """Small crops, so that steps are fast."""
    photos = load("embedded:photos")
    some = photos.train.images[: STEPS_AN_EPOCH * BATCH // 4]
    images = np.concatenate([some[:, :, y : y + 8, x : x + 8] for y in (4, 16) for x in (4, 16)])
    return ImageData("crops", ImageSplit(images), ImageSplit(images[:16]))


def _sample(record: dict[str, Any]) -> dict[str, Any]:
    process = psutil.Process()
    return {
        "steps": record["images"] // BATCH,
        "memory_mib": round(process.memory_info().rss / 2**20, 1),
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "seconds": record["timing"]["train_seconds"],
        "loss": record["train"]["loss"],
    }


def _summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    memory = [sample["memory_mib"] for sample in samples]
    quarter = max(1, len(memory) // 4)
    late = samples[len(samples) // 2 :]
    return {
        "steps": samples[-1]["steps"],
        "memory_mib": [memory[0], max(memory), memory[-1]],
        "growth": round(median(memory[-quarter:]) / median(memory[2 * quarter :][:quarter]), 4),
        "files": sorted({sample["files"] for sample in late}),
        "threads": sorted({sample["threads"] for sample in late}),
    }


if __name__ == "__main__":
    main()
