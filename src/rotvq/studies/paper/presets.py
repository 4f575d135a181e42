"""How large the studies are, from a minute to the paper's own size."""

from __future__ import annotations

from rotvq.studies.study import Preset
from rotvq.training.presets import PRESETS as RUNS

_smoke = RUNS["smoke"].replace(training={"epochs": 4})
_cpu = RUNS["cpu"].replace(data={"train_images": 10_000}, training={"epochs": 20})
_paper = RUNS["paper"]

PRESETS: dict[str, Preset] = {
    # Embedded photographs, a minute on 2 cores: does every study run to its report?
    "smoke": Preset(
        bases={
            "main": _smoke,
            "ablation": _smoke.replace(training={"epochs": 2, "test_every": 2}),
            "estimators": _smoke.replace(training={"epochs": 1}),
            "final": _smoke.replace(data={"train_images": 1024}),
        },
        seeds=2,
    ),
    # A fifth of CIFAR-10's training images, a quarter of the width: within 3 hours on 2 cores.
    "cpu": Preset(
        bases={
            "main": _cpu,
            "ablation": _cpu.replace(training={"epochs": 10, "test_every": 5}),
            "estimators": _cpu.replace(training={"epochs": 10, "test_every": 10}),
            "final": _cpu.replace(data={"train_images": None}, training={"epochs": 12}),
        },
        seeds=3,
    ),
    # The paper's sizes and lengths (3.1.4); the estimators, which it has not, at a tenth of it.
    "paper": Preset(
        bases={
            "main": _paper,
            "ablation": _paper.replace(training={"epochs": 50}),
            "estimators": _paper.replace(training={"epochs": 10, "test_every": 10}),
            "final": _paper,
        },
        seeds=3,
    ),
}
