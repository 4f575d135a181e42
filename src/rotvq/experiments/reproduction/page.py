"""The reproduction report: each study's tables, figures and verdicts on one page."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rotvq.experiments.plan import Run
from rotvq.experiments.reproduction import estimator_verdicts, tables, verdicts
from rotvq.experiments.reproduction.pictures import pictures
from rotvq.experiments.reproduction.results import Result, Results, read
from rotvq.experiments.reproduction.tables import Table
from rotvq.experiments.reproduction.verdicts import Verdict
from rotvq.experiments.studies import STUDIES
from rotvq.experiments.study import Study
from rotvq.report.page import Picture, write_page
from rotvq.report.tables import Fact, facts

NAME = "reproduction"
_OMITTED = ("Started", "Command", "Seed")
"""Facts that differ from run to run."""


@dataclass(frozen=True)
class Section:
    """What the page says of one study."""

    study: Study
    facts: tuple[Fact, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Page:
    """Everything that the templates show, in the order of the page."""

    title: str
    summary: str
    notices: tuple[str, ...]
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in the order of the page."""
        return tuple(picture for section in self.sections for picture in section.pictures)


def write_reproduction(plan: Sequence[Run], out: Path, command: Sequence[str]) -> Path:
    """Write reproduction.html (self-contained), .md and figures; returns the HTML's path.

    Args:
        plan: all runs; those that are not done are named on the page.
        out: folder to write into.
        command: the options that every study's command ends with, as ("--preset", "cpu").

    Raises:
        UserError: no run is done, a record is damaged, or `out` cannot be written.
    """
    page = build_page(read(plan), command)
    write_page(page, page.pictures, out, NAME)
    return out / f"{NAME}.html"


def build_page(results: Results, command: Sequence[str] = ()) -> Page:
    """What the page says of these results."""
    shared = tuple(fact for fact in _facts(results.all) if len(fact.values) == 1)
    sections = tuple(_section(STUDIES[name], results, shared, command) for name in results.studies)
    weighed = [v.holds for section in sections for v in section.verdicts]
    counts = ", ".join(f"{n} {holds}" for holds, n in Counter(weighed).most_common())
    return Page(
        title="The paper's tables and figures, reproduced",
        summary="Rotational and Rescaling Vector Quantized Variational AutoEncoders: every table "
        f"and figure beside what was measured. {len(weighed)} claims weighed: {counts}.",
        notices=_notices(results),
        facts=shared,
        sections=sections,
    )


def _section(
    study: Study, results: Results, shared: Sequence[Fact], command: Sequence[str]
) -> Section:
    runs = results.of(study.name)
    own = [fact for fact in _facts(runs) if fact.name not in {f.name for f in shared}]
    again = shlex.join(["rotvq", "reproduce", study.name, *command])
    return Section(
        study,
        (
            _fact("Stands for", study.stands_for),
            _fact("Trained", _trained(runs)),
            *own,
            _fact("Command", again),
        ),
        _tables(study.name, results),
        pictures(study.name, results),
        _verdicts(study.name, results),
    )


def _tables(study: str, results: Results) -> tuple[Table, ...]:
    first = results.of(study)[0]
    match study:
        case "training":
            return (tables.training_table(first),)
        case "table2":
            return (tables.table2(results),)
        case "table3":
            return (tables.table3(results),)
        case "final":
            return (tables.final(first),)
        case "estimators":
            leak = tables.leak(results)
            return (tables.estimators(results), *([leak] if leak.rows else []))
    return ()


def _verdicts(study: str, results: Results) -> tuple[Verdict, ...]:
    first = results.of(study)[0]
    match study:
        case "training":
            return tuple(verdicts.training(first))
        case "table2":
            return tuple(verdicts.table2(results))
        case "table3":
            return tuple(verdicts.table3(results))
        case "figures":
            return tuple(verdicts.figures(first))
        case "final":
            return tuple(verdicts.final(first))
    return tuple(estimator_verdicts.estimators(results))


def _facts(runs: Sequence[Result]) -> tuple[Fact, ...]:
    """What the runs have in common; where they differ, each value once."""
    return tuple(
        _fact(fact.name, *dict.fromkeys(value for _, value in fact.values))
        for fact in facts([run.record for run in runs])
        if fact.name not in _OMITTED
    )


def _fact(name: str, *values: str) -> Fact:
    return Fact(name, tuple((None, value) for value in values))


def _trained(runs: Sequence[Result]) -> str:
    config = runs[0].run.config
    minutes = math.fsum(e.timing["train_seconds"] for r in runs for e in r.record.epochs) / 60
    return (
        f"{len(runs)} run{'s' * (len(runs) != 1)} of {config.training.epochs} epochs, width "
        f"{config.model.width}, D = {config.model.dim}, batch {config.training.batch_size}; "
        f"{minutes:.1f} minutes of training in all"
    )


def _notices(results: Results) -> tuple[str, ...]:
    absent = [name for name in STUDIES if name not in results.studies]
    notices = [f"Not run yet: {', '.join(absent)}."] if absent else []
    missing = [run.name for run in results.missing if run.study not in absent]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        notices.append(f"Runs not done yet: {', '.join(missing[:5])}{more}.")
    return tuple(notices)
