"""Codebook collapse: a warning during training, with options that help. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rotvq.training.config import Config

HEALTHY = 0.5
"""Usage above which nothing is reported."""

RISING = 1.05
"""Growth of usage over an epoch that counts as recovery."""


class Advice(NamedTuple):
    """An option that helps against collapse, as measured in results/collapse/matrix.md.

    Args:
        option: its name, such as "quantizer.restart".
        value: its value on the command line.
        applies: whether a run with this configuration lacks it.
    """

    option: str
    value: Any
    applies: Callable[[Config], bool]


ADVICE = (
    Advice("quantizer.update", "ema", lambda c: c.quantizer.update == "linear"),
    Advice("quantizer.restart", 0.03, lambda c: not c.quantizer.restart),
    Advice("quantizer.decay", 0.9, lambda c: c.quantizer.decay > 0.9),
)


def advised(config: Config) -> dict[str, Any]:
    """The options that help against collapse and are not set yet, with their values.

    Empty for a fixed grid: the options that were tried helped some runs and hurt others.
    """
    if config.quantizer.levels or config.quantizer.codes != "learned":
        return {}
    return {each.option: each.value for each in ADVICE if each.applies(config)}


def warning(history: Sequence[Mapping[str, Any]], config: Config) -> str | None:
    """A warning after an epoch, with options that help; None if all is well.

    A codebook counts as collapsing if less than half of it is used and its usage is not growing
    from one epoch to the next.

    Args:
        history: the records of the epochs so far.
        config: configuration of the run.
    """
    if len(history) < 2:
        return None
    before, now = (record["train"]["usage"] for record in history[-2:])
    if now >= HEALTHY or now > RISING * before:
        return None
    options = config.quantizer
    size = options.codebook_size
    several = options.residual * options.groups > 1 or options.scales
    each = " per codebook" if several else ""
    settings = " ".join(f"--{name} {value}" for name, value in advised(config).items())
    remedy = f"Start again with {settings}." if settings else "No other option is known to help."
    return (
        f"The codebook is collapsing: {round(now * size):,} of {size:,} codes{each} are used, "
        f"after {round(before * size):,} an epoch ago. {remedy}"
    )
