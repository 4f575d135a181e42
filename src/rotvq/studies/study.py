"""What a study is, as data: variants of a base configuration, each trained at some seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rotvq.training.config import Config

Changes = Mapping[str, Mapping[str, Any]]
"""Values that replace those of a configuration, as `{"quantizer": {"codebook_size": 256}}`."""


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Args:
        name: in paths and on the command line.
        label: in tables.
        changes: what differs from the study's base.
        base: another configuration to start from, by its name in a preset.
    """

    name: str
    label: str
    changes: Changes
    base: str | None = None


@dataclass(frozen=True)
class Study:
    """One experiment.

    Args:
        name: in paths and on the command line.
        title: in the report.
        stands_for: the table, the figures or the section of the paper.
        base: the configuration that its variants change, by its name in a preset.
        variants: its rows, in order.
        repeated: train each variant at every seed; else at the first alone.
        measures: what is measured of each trained model besides its evaluation, by name.
    """

    name: str
    title: str
    stands_for: str
    base: str
    variants: tuple[Variant, ...]
    repeated: bool = False
    measures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """How large the studies are.

    Args:
        bases: configurations by name, for the studies to start from.
        seeds: how many, for the repeated studies.
    """

    bases: Mapping[str, Config]
    seeds: int


@dataclass(frozen=True)
class Suite:
    """Studies that are planned, run and reported together.

    Args:
        verb: of the command line.
        studies: by name, in order.
        presets: their sizes by name.
    """

    verb: str
    studies: Mapping[str, Study]
    presets: Mapping[str, Preset]
