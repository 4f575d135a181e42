"""Measure which settings make a codebook collapse, and whether the advice of rotvq train helps.

Small runs on the embedded photographs, a few seconds each on one core. All combinations of the
settings are run, so that the effect of each change can be looked up. Adds every run to
results/collapse/matrix.json (runs already there are skipped), then writes matrix.md: what
`rotvq.training.collapse` advises in each situation, with results before and after.

    python benchmarks/collapse.py [--seeds 1] [--only N] [--out results/collapse]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from rotvq.data_processing import ImageData, load
from rotvq.files import to_json, write_text
from rotvq.training import environment
from rotvq.training.collapse import advised
from rotvq.training.config import Config, DataConfig, ModelConfig, TrainingConfig
from rotvq.training.trainer import Trainer

Settings = dict[str, Any]

BASE = Config(
    data=DataConfig(size=16, train_images=384, test_images=96),
    model=ModelConfig(width=16, dim=16, depth=1),
    training=TrainingConfig(
        epochs=20, batch_size=32, schedule="cosine", checkpoint_every=1000, test_every=1000
    ),
)
"""240 steps on crops of 16x16 pixels: 16 tokens per crop, 512 per step."""

CUBES: dict[str, dict[str, tuple[Any, ...]]] = {
    "moving averages": {
        "quantizer.codebook_size": (128,),
        "quantizer.estimator": ("straight_through", "rotation"),
        "training.learning_rate": (2e-3, 4e-4),
        "quantizer.init": ("uniform", "data"),
        "quantizer.restart": (0.0, 0.03),
        "quantizer.decay": (0.99, 0.9),
    },
    "moving averages, a smaller codebook": {
        "quantizer.codebook_size": (32,),
        "quantizer.estimator": ("straight_through", "rotation"),
        "training.learning_rate": (2e-3,),
        "quantizer.init": ("uniform",),
        "quantizer.restart": (0.0, 0.03),
        "quantizer.decay": (0.99, 0.9),
    },
    "gradient": {
        "quantizer.update": ("gradient",),
        "quantizer.codebook_size": (128,),
        "training.learning_rate": (2e-3,),
        "quantizer.restart": (0.0, 0.03),
        "quantizer.decay": (0.99, 0.9),
    },
    "one map of all codes": {
        "quantizer.update": ("linear",),
        "quantizer.codebook_size": (128,),
        "training.learning_rate": (2e-3, 4e-4),
    },
    "fixed grid": {
        "model.dim": (3,),
        "quantizer.codebook_size": (128,),
        "quantizer.levels": ("8,4,4",),
        "training.learning_rate": (2e-3, 4e-4),
    },
    "moving averages, codes as short as the grid's": {
        "model.dim": (3,),
        "quantizer.codebook_size": (128,),
        "training.learning_rate": (2e-3, 4e-4),
        "quantizer.restart": (0.03,),
        "quantizer.decay": (0.9,),
    },
}
"""By kind of codebook: the settings, and the values of each to combine."""

COMMAND = "python benchmarks/collapse.py --seeds 3"

LAST = 4
"""Final epochs over which the training error is averaged, as that of a single one is noisy."""

HEAD = f"""\
# Codebook collapse, and what helps

In each of these situations, `rotvq train` printed its warning. The columns compare the run with the
same run after following the advice (before → after). MSE over the last {LAST} epochs of training
and over the test images; codes used by the test images; means over the seeds. All runs are in
`matrix.json`; to repeat them, run `{COMMAND}`.

| situation | advice | training MSE | test MSE | codes used | perplexity | seeds |
|---|---|---:|---:|---:|---:|---:|"""


def corners() -> Iterator[Settings]:
    """All combinations of settings."""
    for axes in CUBES.values():
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def configured(settings: Settings, seed: int = 0) -> Config:
    """The base configuration with these settings."""
    groups: dict[str, Settings] = {"training": {"seed": seed}}
    for name, value in settings.items():
        group, _, field = name.partition(".")
        groups.setdefault(group, {})[field] = None if value == "null" else value
    return BASE.replace(**groups)


def measure(config: Config, data: ImageData) -> Settings:
    """Train; return the final metrics and the epochs after which a collapse was reported."""
    since = time.perf_counter()
    with TemporaryDirectory() as folder:
        trainer = Trainer(config, data, Path(folder) / "run")
        trainer.begin()
        metrics = trainer.run()["metrics"]
    history = trainer.position.history
    errors = [r["train"]["reconstruction_loss"] for r in history[-LAST:]]
    return {
        "train_mse": round(sum(errors) / LAST, 5),
        "mse": round(metrics["mse"], 5),
        "usage": round(metrics["usage"], 4),
        "perplexity": round(metrics["perplexity"], 1),
        "warned": [r["epoch"] for r in history if "warning" in r["codebook"]],
        "seconds": round(time.perf_counter() - since, 1),
    }


def read(path: Path) -> list[Settings]:
    """The runs in a record; none if the file does not exist."""
    return json.loads(path.read_text())["runs"] if path.exists() else []


def write(path: Path, runs: Sequence[Settings]) -> None:
    """Write the record, one run per line."""
    made = {
        "command": COMMAND,
        "data": "embedded photographs, 384 training and 96 test patches of 16x16",
        "hardware": environment.hardware(torch.device("cpu")),
        "versions": environment.versions(),
    }
    lines = ",\n".join(to_json(run) for run in runs)
    write_text(path, f'{to_json(made)[:-1]}, "runs": [\n{lines}\n]}}\n')


def table(runs: Sequence[Settings]) -> str:
    """Markdown: each situation in which a collapse was reported, before and after the advice."""
    by_config: dict[Config, list[Settings]] = {}
    for run in runs:
        by_config.setdefault(configured(run["settings"]), []).append(run)
    lines = [HEAD]
    for config, some in by_config.items():
        settings = some[0]["settings"]
        if not any(run["warned"] for run in some):
            continue
        advice = advised(config)
        after = by_config.get(configured(settings | advice), []) if advice else []
        values = [
            _change(some, after, name) for name in ("train_mse", "mse", "usage", "perplexity")
        ]
        advised_settings = (
            ", ".join(f"{name.partition('.')[2]} {v}" for name, v in advice.items()) or "none"
        )
        cells = [_words(settings), advised_settings, *values, str(len(some))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _words(settings: Settings) -> str:
    return ", ".join(f"{name.partition('.')[2]} {value}" for name, value in settings.items())


def _change(before: Sequence[Settings], after: Sequence[Settings], name: str) -> str:
    values = (statistics.fmean(run[name] for run in some) for some in (before, after) if some)
    form = {"usage": "{:.0%}", "perplexity": "{:.0f}"}.get(name, "{:.4f}")
    return " → ".join(form.format(value) for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", type=int, help="stop after this many new runs")
    parser.add_argument("--out", type=Path, default=Path("results/collapse"))
    options = parser.parse_args()
    path = options.out / "matrix.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = read(path)
    done = [(run["settings"], run["seed"]) for run in runs]
    wanted = [(c, s) for s in range(options.seeds) for c in corners()]
    data = load("photos", size=BASE.data.size)
    for settings, seed in [each for each in wanted if each not in done][: options.only]:
        found = measure(configured(settings, seed), data)
        runs.append({"settings": settings, "seed": seed, **found})
        print(settings, seed, found, flush=True)
        write(path, runs)
    write_text(options.out / "matrix.md", table(runs))


if __name__ == "__main__":
    main()
