"""Codebook collapse, seen while it can still be helped. Pure: records to a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rotvq.training.config import Config

HEALTHY = 0.5
"""Usage from which on there is nothing to report."""

RISING = 1.05
"""Growth of usage over an epoch that gives hope."""


class Advice(NamedTuple):
    """A setting that helps where it applies, as measured in results/collapse/matrix.md.

    Args:
        option: its name, as "quantizer.restart".
        value: what to set it to, as written on the command line.
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
    """The settings that help against collapse and are not in use yet, by option.

    For a fixed grid there are none: what was tried helped one run and hurt another.
    """
    if config.quantizer.levels:
        return {}
    return {each.option: each.value for each in ADVICE if each.applies(config)}


def warning(history: Sequence[Mapping[str, Any]], config: Config) -> str | None:
    """What to say after an epoch, with the settings that help; None where all is well.

    A codebook collapses where less than half of it is used and that does not grow from one epoch to
    the next.

    Args:
        history: the records of the epochs so far.
        config: of the run.
    """
    if len(history) < 2:
        return None
    before, now = (record["train"]["usage"] for record in history[-2:])
    if now >= HEALTHY or now > RISING * before:
        return None
    size = config.quantizer.codebook_size
    options = " ".join(f"--{name} {value}" for name, value in advised(config).items())
    remedy = f"Start again with {options}." if options else "No other setting is known to help."
    return (
        f"The codebook collapses: {round(now * size):,} of {size:,} codes are used, after "
        f"{round(before * size):,} an epoch ago. {remedy}"
    )
