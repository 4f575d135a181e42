"""Finished runs and their records, by study, variant and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rotvq import run_folder
from rotvq.errors import UserError, first_line
from rotvq.guarded import LARGEST_NUMBER, mapping, numbers, read_json
from rotvq.run_record import RunRecord, load_run, lookup
from rotvq.studies.milestones import CODEBOOK
from rotvq.studies.plan import Run


@dataclass(frozen=True)
class Result:
    """A finished run: its plan, its record, and the measurements made besides."""

    run: Run
    record: RunRecord
    measured: Mapping[str, Mapping[str, Any]]

    def metric(self, name: str) -> float:
        """A metric of the evaluation on the test split; nan where it is unknown."""
        return (
            self.record.evaluation.metrics.get(name, math.nan)
            if self.record.evaluation
            else math.nan
        )

    def train(self, name: str, epoch: int = -1) -> float:
        """A training metric of an epoch, by its index in the record (0: first, -1: last)."""
        return self.record.epochs[epoch].train.get(name, math.nan)

    @property
    def minutes(self) -> float:
        """Training time; nan where an epoch's time is unknown."""
        seconds = (e.timing.get("train_seconds", math.nan) for e in self.record.epochs)
        return math.fsum(seconds) / 60

    def classifier_metric(self, name: str) -> float:
        """A metric of the measurement with a classifier; nan where it is unknown."""
        value = lookup(self.measured.get("classifier_metrics", {}), f"metrics.{name}")
        return float(value) if isinstance(value, int | float) else math.nan


@dataclass(frozen=True)
class Results:
    """All finished runs of a plan, in order."""

    plan: tuple[Run, ...]
    all: tuple[Result, ...]

    def of(self, study: str, variant: str | None = None) -> tuple[Result, ...]:
        """The runs of a study or of one of its variants, in order of their seeds."""
        return tuple(
            r for r in self.all if r.run.study == study and variant in (None, r.run.variant.name)
        )

    def rows(self, study: str) -> dict[str, tuple[Result, ...]]:
        """The runs of a study by the label of their variant, in the order of the variants."""
        labels = dict.fromkeys(run.variant.label for run in self.plan if run.study == study)
        found = {
            label: tuple(r for r in self.of(study) if r.run.variant.label == label)
            for label in labels
        }
        return {label: runs for label, runs in found.items() if runs}

    def same_seeds(self, study: str, *variants: str) -> list[tuple[Result, ...]] | None:
        """The runs of each variant at the seeds that all of them have; None if there are none."""
        found = [self.of(study, variant) for variant in variants]
        common = set.intersection(*({r.run.seed for r in runs} for runs in found))
        if not common:
            return None
        return [tuple(r for r in runs if r.run.seed in common) for runs in found]

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the studies that have a finished run, in order."""
        return tuple(name for name in _studies(self.plan) if self.of(name))

    @property
    def missing(self) -> tuple[Run, ...]:
        """The planned runs that are not finished."""
        return tuple(run for run in self.plan if not run.done)


def read(plan: Sequence[Run]) -> Results:
    """Read the records of the finished runs of a plan.

    Raises:
        UserError: no run is finished, a record is damaged, or the runs of a study used different
            images.
    """
    results = tuple(_result(run) for run in plan if run.done)
    if not results:
        raise UserError("report: expected at least one finished run; got none. Finish a run first.")
    for study in _studies(plan):
        runs = [r for r in results if r.run.study == study]
        _check_one(
            "training images", runs, lambda r: lookup(r.record.run, "data.train.fingerprint")
        )
        _check_one("test images", runs, lambda r: lookup(r.record.run, "data.test.fingerprint"))
        _check_one(
            "classifier", runs, lambda r: lookup(r.measured, "classifier_metrics.classifier")
        )
    return Results(tuple(plan), results)


def read_norms(path: Path) -> dict[int, dict[str, float]]:
    """The gradient norm of each parameter, by epoch.

    Raises:
        UserError: the file does not exist or is damaged.
    """
    try:
        epochs = mapping(mapping(read_json(path), str(path)).get("epochs"), f"{path}: epochs")
        return {int(epoch): dict(numbers(epochs, epoch, str(path))) for epoch in epochs}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected the gradient norms of a run; {first_line(error)}. Remove "
            f"{path.parent} to train it again."
        ) from None


def _studies(plan: Sequence[Run]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.study for run in plan))


def _result(run: Run) -> Result:
    record = load_run(run.folder)
    recorded = [epoch.number for epoch in record.epochs]
    wanted = run.config.training.epochs
    if recorded != list(range(1, wanted + 1)) or not record.epochs[-1].test:
        raise UserError(
            f"{run.folder / run_folder.EPOCHS}: expected {wanted} epochs, the last one tested; got "
            f"{len(recorded)} or others. Remove {run.folder} to train it again."
        )
    return Result(run, record, {name: _measured(run, name) for name in run.measures})


def _measured(run: Run, name: str) -> Mapping[str, Any]:
    path = run.folder / f"{name}.json"
    try:
        record = mapping(read_json(path, within=run.folder), str(path))
        if name == "tsne":
            return {**record, "epochs": _maps(record.get("epochs"))}
        return {**record, "metrics": numbers(record, "metrics", str(path))}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected the record of a measurement; {first_line(error)}. Remove it to "
            "measure again."
        ) from None


def _maps(epochs: Any) -> list[dict[str, Any]]:
    """Check the epochs that `measures.tsne` writes.

    Raises:
        ValueError: they have another form.
    """
    if not isinstance(epochs, list) or not 1 <= len(epochs) <= len(CODEBOOK):
        raise ValueError(f"it has no list of 1 to {len(CODEBOOK)} epochs")
    return [_map(epoch) for epoch in epochs]


def _map(epoch: Any) -> dict[str, Any]:
    try:
        number, points, uses = epoch["epoch"], epoch["points"], epoch["uses"]
        places = np.array(points, dtype=np.float64)
        whole = all(type(use) is int and use >= 0 for use in uses)
    except (KeyError, TypeError, ValueError):
        raise ValueError("an epoch of it lacks epoch, points or uses") from None
    fitting = len(uses) > 0 and places.shape == (len(uses), 2)
    if not (type(number) is int and whole and fitting and (np.abs(places) < LARGEST_NUMBER).all()):
        raise ValueError("an epoch of it has no two finite numbers and a count for every code")
    return {"epoch": number, "points": points, "uses": uses}


def _check_one(name: str, results: Sequence[Result], value: Callable[[Result], Any]) -> None:
    """Check that all runs of a study share what makes them comparable."""
    seen = {str(value(r)): r.run.folder for r in results}
    if len(seen) > 1:
        pairs = "; ".join(f"{path}: {found}" for found, path in seen.items())
        raise UserError(
            f"{name}: expected the same in every run of a study; got {pairs}. Remove the runs "
            "that differ, or choose another --out."
        )
