"""Seeing a codebook collapse while it can still be helped. Pure: records to a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rotvq.training.config import QuantizerConfig

HEALTHY = 0.5
"""Usage from which on nobody needs to be told."""

RISING = 1.05
"""Growth of usage over an epoch that lets one hope."""


def warning(history: Sequence[Mapping[str, Any]], quantizer: QuantizerConfig) -> str | None:
    """What to tell after an epoch, and what helps; None where all is well.

    A codebook collapses where less than half of it is used and that does not grow from one epoch to
    the next.

    Args:
        history: the records of the epochs so far.
        quantizer: of the run.
    """
    if len(history) < 2:
        return None
    before, now = (record["train"]["usage"] for record in history[-2:])
    if now >= HEALTHY or now > RISING * before:
        return None
    size = quantizer.codebook_size
    return (
        f"The codebook collapses: {round(now * size):,} of {size:,} codes are used, after "
        f"{round(before * size):,} an epoch ago. {_remedy(quantizer)}"
    )


def _remedy(quantizer: QuantizerConfig) -> str:
    if quantizer.levels:
        return "Try fewer levels, or a lower --training.learning_rate."
    if not quantizer.restart and quantizer.rule != "linear":
        return "Begin again with --quantizer.restart 0.03 --quantizer.init data."
    if quantizer.estimator == "straight_through":
        return "Try --quantizer.estimator rotation, or a smaller --quantizer.codebook_size."
    return "Try a lower --training.learning_rate or a smaller --quantizer.codebook_size."
