"""How the learning rate and the decay of the codebook change over a run."""

from __future__ import annotations

import math

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

WARMUP = 0.1
"""Share of a run over which the cosine schedule raises the learning rate."""


def constant(progress: float) -> float:
    """Always the full learning rate."""
    return 1.0


def cosine(progress: float) -> float:
    """Linear warmup to the full learning rate, then a cosine down to 0 (one cycle).

    Args:
        progress: share of the run's steps that are done, 0 to 1.

    Returns:
        The share of the peak, 0 to 1.
    """
    if progress < WARMUP:
        return progress / WARMUP
    return (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))) / 2


def linear(first: float, last: float | None, progress: float) -> float:
    """Linear interpolation from the first value to the last; constant if there is no last.

    Args:
        first: the value at the start.
        last: the value at the end, or None.
        progress: share of the run's steps that are done, 0 to 1.
    """
    return first if last is None else first + (last - first) * progress


SCHEDULES = {"constant": constant, "cosine": cosine}


def share_of_peak(schedule: str, step: int, steps: int) -> float:
    """The share of the peak at which a step is taken; a run of one step, which starts at 0, has 1.

    Args:
        schedule: one of `SCHEDULES`.
        step: counted from 0.
        steps: steps in the whole run.
    """
    return SCHEDULES[schedule if steps > 1 else "constant"](step / steps)


def lr_scheduler(
    optimizer: Optimizer, schedule: str, peak: float, steps: int, done: int
) -> LambdaLR:
    """The learning rate scheduler of a run, set to its current step.

    It has no state of its own: a resumed run, perhaps of more epochs, derives it from its position.

    Args:
        optimizer: the optimizer whose learning rate it sets. A parameter group with a `rate` gets
            that share of it. If the group is `capturable`, the learning rate is a tensor.
        schedule: one of `SCHEDULES`.
        peak: the full learning rate.
        steps: steps in the whole run.
        done: steps already taken.
    """
    for group in optimizer.param_groups:
        rate = group["initial_lr"] = peak * group.get("rate", 1.0)
        device = group["params"][0].device
        group["lr"] = torch.tensor(rate, device=device) if group.get("capturable") else rate
    return LambdaLR(
        optimizer, lambda step: share_of_peak(schedule, step, steps), last_epoch=done - 1
    )
