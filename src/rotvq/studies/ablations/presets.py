"""The sizes of our ablations. Choices are made on images held out of the training split."""

from __future__ import annotations

from dataclasses import asdict, replace

from rotvq.generation.config import PRESETS as PRIORS
from rotvq.studies.study import Generation, Preset
from rotvq.training.presets import PRESETS as RUNS

# CIFAR-10 is not cropped: its images have the size that the network takes. In short runs, flips
# cost more than they gain.
_HELD_OUT = {"validation": 4096, "crops": "center", "random_flip": False}

_smoke = RUNS["smoke"].replace(data={"validation": 128}, training={"epochs": 1})
_smoke_data = asdict(_smoke.data)
_cpu = RUNS["cpu"].replace(data=_HELD_OUT)
_paper = RUNS["paper"].replace(data=_HELD_OUT)
# The steps end with a wider network. The preset best also has attention and Muon.
_all_steps = RUNS["best"].replace(
    data=_HELD_OUT,
    model={"network": "patches"},
    training={"optimizer": "adam", "learning_rate": 2e-3},
)
_last_step = _all_steps.replace(training={"epochs": 4, "test_every": 4})
_all_steps_gpu = RUNS["best_gpu"].replace(
    data=_HELD_OUT,
    training={"optimizer": "adam", "learning_rate": 1e-3},
)
_straight = {"estimator": "straight_through"}
_restarts = _straight | {"init": "data", "restart": 0.03}
_sharp = RUNS["sharp"].replace(
    data=_HELD_OUT,
    training={"test_every": 6, "adversarial_weight": 0.005, "learning_rate": 3e-3},
)
_losses = {
    name: getattr(_sharp.training, name)
    for name in ("perceptual", "perceptual_weight", "adversarial_weight")
}

_one_epoch = replace(PRIORS["cpu"], training=replace(PRIORS["cpu"].training, epochs=1))

PRESETS: dict[str, Preset] = {
    # Checks that every study runs to its report.
    "smoke": Preset(
        bases={
            "steps": _smoke,
            "last_step": _last_step.replace(data=_smoke_data, training={"epochs": 1}),
            "best": _smoke.replace(model={"network": "patches"}, quantizer=_straight),
            "plain": _smoke.replace(quantizer=_straight),
            "sharp": _smoke.replace(quantizer=_restarts, training=_losses),
        },
        seeds=2,
        generation=Generation(PRIORS["smoke"], 16),
    ),
    # A few minutes per run on 2 cores; `best` and `plain` take half an hour per run, and `priors` a
    # quarter of an hour more per row.
    "cpu": Preset(
        bases={
            "steps": _cpu.replace(training={"epochs": 4, "test_every": 4}),
            "last_step": _last_step,
            "best": _all_steps,
            "plain": _cpu.replace(quantizer=_straight),
            "sharp": _sharp.replace(
                data={"train_images": 8192}, model={"width": 64}, training={"epochs": 6}
            ),
        },
        seeds=3,
        generation=Generation(_one_epoch, 1000),
    ),
    # For a GPU: the paper's width, and its hundred epochs in the last two studies.
    "paper": Preset(
        bases={
            "steps": _paper.replace(training={"epochs": 20, "test_every": 20}),
            "last_step": _all_steps_gpu.replace(training={"epochs": 20, "test_every": 20}),
            "best": _all_steps_gpu,
            "plain": _paper.replace(quantizer=_straight),
            "sharp": _sharp.replace(training={"epochs": 20, "test_every": 20}),
        },
        seeds=3,
        generation=Generation(PRIORS["gpu"], 10000),
    ),
}
