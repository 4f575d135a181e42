"""What a study is, as data: variants of a base configuration, each trained with several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rotvq.generation.config import PriorConfig
from rotvq.training.config import Config

Changes = Mapping[str, Mapping[str, Any]]
"""Values that replace those of a configuration, as `{"quantizer": {"codebook_size": 256}}`."""


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Args:
        name: in paths and on the command line.
        label: in tables and figures.
        changes: what differs from the study's base.
        base: another base configuration to start from, by its name in a preset.
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
        description: the table, figures or section of the paper that it reproduces, or its setup.
        base: the configuration that the variants change, by its name in a preset.
        variants: the rows, in order.
        repeated: train each variant with every seed; otherwise with the first one only.
        measures: names of the measurements made of each trained model besides its evaluation.
    """

    name: str
    title: str
    description: str
    base: str
    variants: tuple[Variant, ...]
    repeated: bool = False
    measures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generation:
    """The size of the measurement `generation`.

    Args:
        prior: configuration of the prior; its tokens are those of the run.
        samples: number of samples that are compared with images.
    """

    prior: PriorConfig
    samples: int


@dataclass(frozen=True)
class Preset:
    """The size of a suite's studies.

    Args:
        bases: the configurations that studies start from, by name.
        seeds: the number of seeds of repeated studies.
        generation: of the studies that measure it.
    """

    bases: Mapping[str, Config]
    seeds: int
    generation: Generation | None = None


@dataclass(frozen=True)
class Suite:
    """Studies that are planned, run and reported together.

    Args:
        command: the rotvq command that runs the suite, such as "reproduce".
        name: the name of the default folder and of the report's files, such as "reproduction".
        title: of the report.
        summary: one sentence under the title.
        studies: by name, in order.
        presets: by name.
    """

    command: str
    name: str
    title: str
    summary: str
    studies: Mapping[str, Study]
    presets: Mapping[str, Preset]
