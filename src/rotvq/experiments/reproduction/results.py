"""The records of finished runs, by study, variant and seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotvq.errors import UserError
from rotvq.experiments.plan import Run
from rotvq.report.records import RunRecord, load_run, lookup

_CONTENT = {"tsne": "epochs", "best": "metrics", "yardstick": "metrics", "bound": "metrics"}
"""What a measurement's record must have, by its name."""


@dataclass(frozen=True)
class Result:
    """A finished run: what was planned, what was recorded, what was measured besides."""

    run: Run
    record: RunRecord
    measured: Mapping[str, Mapping[str, Any]]

    def metric(self, name: str) -> float:
        """A metric of the test evaluation; nan where it is unknown."""
        return (
            self.record.evaluation.metrics.get(name, math.nan)
            if self.record.evaluation
            else math.nan
        )

    def train(self, name: str, epoch: int = -1) -> float:
        """A training metric of an epoch by its place in the record: 0 the first, -1 the last."""
        return self.record.epochs[epoch].train.get(name, math.nan)

    def yardstick(self, name: str) -> float:
        """A metric of the classifier's measurement; nan where it is unknown."""
        value = lookup(self.measured.get("yardstick", {}), f"metrics.{name}")
        return float(value) if isinstance(value, int | float) else math.nan


@dataclass(frozen=True)
class Results:
    """All finished runs of a plan, in its order."""

    plan: tuple[Run, ...]
    all: tuple[Result, ...]

    def of(self, study: str, variant: str | None = None) -> tuple[Result, ...]:
        """The runs of a study, or of one of its variants, seed by seed."""
        return tuple(
            r for r in self.all if r.run.study == study and variant in (None, r.run.variant.name)
        )

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the studies with a finished run, in order."""
        return tuple(name for name in _studies(self.plan) if self.of(name))

    @property
    def missing(self) -> tuple[Run, ...]:
        """What is planned and not finished."""
        return tuple(run for run in self.plan if not run.done)


def read(plan: Sequence[Run]) -> Results:
    """Read the records of a plan's finished runs.

    Raises:
        UserError: none is finished, a record is damaged, or a study's runs saw different images.
    """
    results = tuple(_result(run) for run in plan if run.done)
    if not results:
        raise UserError("reproduce: expected at least one finished run; there is none yet.")
    for study in _studies(plan):
        runs = [r for r in results if r.run.study == study]
        _check_one(
            "training images", runs, lambda r: lookup(r.record.run, "data.train.fingerprint")
        )
        _check_one("test images", runs, lambda r: lookup(r.record.run, "data.test.fingerprint"))
        _check_one("classifier", runs, lambda r: lookup(r.measured, "yardstick.classifier"))
    return Results(tuple(plan), results)


def _studies(plan: Sequence[Run]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.study for run in plan))


def _result(run: Run) -> Result:
    measured = {}
    for name in run.measures:
        path = run.folder / f"{name}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            _ = record[_CONTENT[name]]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{path}: expected the record of a measurement; it is damaged. Remove it to "
                "measure again."
            ) from None
        measured[name] = record
    return Result(run, load_run(run.folder), measured)


def _check_one(name: str, results: Sequence[Result], value: Callable[[Result], Any]) -> None:
    """See that all rows of a study agree in what makes them comparable."""
    seen = {value(r): r.run.folder for r in results}
    if len(seen) > 1:
        pairs = "; ".join(f"{path}: {found}" for found, path in seen.items())
        raise UserError(
            f"{name}: expected the same in every run of a study; got {pairs}. Remove the runs that "
            "are of others, or choose another --out."
        )
