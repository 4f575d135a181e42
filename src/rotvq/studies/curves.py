"""How samples are drawn to be measured, and what the metrics are called."""

from __future__ import annotations

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
"""Scales of classifier-free guidance, at temperature 1."""

TEMPERATURES = (0.8, 0.9)
"""Without guidance."""


def curve(metric: str, option: str, value: float) -> str:
    """The name of a metric of samples drawn with an option, compared with the images held out."""
    return f"held_out_{metric}_{option}_{value:g}"
