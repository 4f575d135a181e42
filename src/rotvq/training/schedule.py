"""How the learning rate, β and γ move over a run."""

from __future__ import annotations

import math

WARMUP = 0.1
"""Share of a run over which the learning rate rises."""


def constant(progress: float) -> float:
    """Always the whole learning rate."""
    return 1.0


def cosine(progress: float) -> float:
    """Linearly up to the whole learning rate, then down to 0 as a cosine (one cycle).

    Args:
        progress: share of the run's steps that are done, 0 to 1.

    Returns:
        The share of the peak, 0 to 1.
    """
    if progress < WARMUP:
        return progress / WARMUP
    return (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))) / 2


def even(first: float, last: float | None, progress: float) -> float:
    """From the first value to the last in even steps; the first throughout, where there is no last.

    Args:
        first: the value at the beginning.
        last: the value at the end, or None.
        progress: share of the run's steps that are done, 0 to 1.
    """
    return first if last is None else first + (last - first) * progress


SCHEDULES = {"constant": constant, "cosine": cosine}
