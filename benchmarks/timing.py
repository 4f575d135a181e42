"""Times of interleaved calls, so that noise of the machine affects all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

FEWEST, MOST, SECONDS = 5, 21, 20.0


def race(works: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, list[float]]:
    """Seconds of each call in each round, after two warm-up rounds.

    Stops after MOST rounds, or after SECONDS if at least FEWEST rounds are done.
    """
    for _ in range(2):
        for work in works.values():
            seconds(work, device)
    times: dict[str, list[float]] = {name: [] for name in works}
    since = time.perf_counter()
    for number in range(MOST):
        if number >= FEWEST and time.perf_counter() - since > SECONDS:
            break
        for name, work in works.items():
            times[name].append(seconds(work, device))
    return times


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    since = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - since


def summary(values: list[float]) -> dict[str, Any]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "quartiles": [low, high], "rounds": len(values)}
