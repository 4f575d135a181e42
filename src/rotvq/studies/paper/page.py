"""The report of a suite: each study's tables, figures and verdicts on one page."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rotvq.report.page import Picture, write_page
from rotvq.report.tables import Fact, facts
from rotvq.studies.paper.results import Result, Results, read
from rotvq.studies.paper.tables import Table
from rotvq.studies.paper.verdicts import Verdict
from rotvq.studies.plan import Run
from rotvq.studies.study import Study, Suite

TEMPLATE = "reproduction"
_OMITTED = ("Started", "Command", "Seed")
"""Facts that differ from run to run."""


@dataclass(frozen=True)
class Contents:
    """What a suite's report says; each function of a study's name and all results.

    Args:
        suite: whose studies.
        name: of the files.
        title: of the page.
        summary: under it, before how many claims were weighed.
        tables, pictures, verdicts: of a study that has a finished run.
    """

    suite: Suite
    name: str
    title: str
    summary: str
    tables: Callable[[str, Results], tuple[Table, ...]]
    pictures: Callable[[str, Results], tuple[Picture, ...]]
    verdicts: Callable[[str, Results], tuple[Verdict, ...]]


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


def write_report(
    contents: Contents, plan: Sequence[Run], out: Path, command: Sequence[str]
) -> Path:
    """Write NAME.html (self-contained), NAME.md and figures; returns the HTML's path.

    Args:
        contents: what it says.
        plan: all runs; those that are not done are named on the page.
        out: folder to write into.
        command: the options that every study's command ends with, as ("--preset", "cpu").

    Raises:
        UserError: no run is done, a record is damaged, or `out` cannot be written.
    """
    page = build_page(contents, read(plan), command)
    write_page(page, page.pictures, out, contents.name, TEMPLATE)
    return out / f"{contents.name}.html"


def build_page(contents: Contents, results: Results, command: Sequence[str] = ()) -> Page:
    """What the page says of these results."""
    shared = tuple(fact for fact in _facts(results.all) if len(fact.values) == 1)
    sections = tuple(_section(contents, name, results, shared, command) for name in results.studies)
    weighed = [v.holds for section in sections for v in section.verdicts]
    counts = ", ".join(f"{n} {holds}" for holds, n in Counter(weighed).most_common())
    return Page(
        title=contents.title,
        summary=f"{contents.summary} {len(weighed)} claims weighed: {counts}.",
        notices=_notices(contents.suite, results),
        facts=shared,
        sections=sections,
    )


def _section(
    contents: Contents,
    name: str,
    results: Results,
    shared: Sequence[Fact],
    command: Sequence[str],
) -> Section:
    study, runs = contents.suite.studies[name], results.of(name)
    own = [fact for fact in _facts(runs) if fact.name not in {f.name for f in shared}]
    again = shlex.join(["rotvq", contents.suite.verb, name, *command])
    return Section(
        study,
        (
            _fact("Stands for", study.stands_for),
            _fact("Trained", _trained(runs)),
            *own,
            _fact("Command", again),
        ),
        contents.tables(name, results),
        contents.pictures(name, results),
        contents.verdicts(name, results),
    )


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
    minutes = math.fsum(r.minutes for r in runs)
    return (
        f"{len(runs)} run{'s' * (len(runs) != 1)} of {config.training.epochs} epochs, width "
        f"{config.model.width}, D = {config.model.dim}, batch {config.training.batch_size}; "
        f"{minutes:.1f} minutes of training in all"
    )


def _notices(suite: Suite, results: Results) -> tuple[str, ...]:
    absent = [name for name in suite.studies if name not in results.studies]
    notices = [f"Not run yet: {', '.join(absent)}."] if absent else []
    missing = [run.name for run in results.missing if run.study not in absent]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        notices.append(f"Runs not done yet: {', '.join(missing[:5])}{more}.")
    return tuple(notices)
