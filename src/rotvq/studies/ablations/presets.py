"""How large our own studies are. Choices are made on images held out of the training split."""

from __future__ import annotations

from dataclasses import asdict

from rotvq.studies.study import Preset
from rotvq.training.presets import PRESETS as RUNS

_smoke = RUNS["smoke"].replace(data={"validation": 128}, training={"epochs": 1})
_smoke_data = asdict(_smoke.data)
_cpu = RUNS["cpu"].replace(data={"validation": 4096})
_paper = RUNS["paper"].replace(data={"validation": 4096})
_best = RUNS["best"].replace(data={"validation": 4096})
_best_gpu = RUNS["best_gpu"].replace(data={"validation": 4096})
_straight = {"estimator": "straight_through"}

PRESETS: dict[str, Preset] = {
    # Does every study run to its report?
    "smoke": Preset(
        bases={
            "steps": _smoke,
            "top": _best.replace(data=_smoke_data, training={"epochs": 1}),
            "best": _smoke.replace(model={"network": "patches"}, quantizer=_straight),
            "plain": _smoke.replace(quantizer=_straight),
        },
        seeds=2,
    ),
    # Each row a few minutes on 2 cores; the last two studies half an hour a run.
    "cpu": Preset(
        bases={
            "steps": _cpu.replace(training={"epochs": 4, "test_every": 4}),
            "top": _best.replace(training={"epochs": 4, "test_every": 4}),
            "best": _best,
            "plain": _cpu.replace(quantizer=_straight),
        },
        seeds=3,
    ),
    # For a GPU: the paper's width, and its hundred epochs for the last two.
    "paper": Preset(
        bases={
            "steps": _paper.replace(training={"epochs": 20, "test_every": 20}),
            "top": _best_gpu.replace(training={"epochs": 20, "test_every": 20}),
            "best": _best_gpu,
            "plain": _paper.replace(quantizer=_straight),
        },
        seeds=3,
    ),
}
