"""The report of a suite: the tables, figures and claims of each study on one page."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rotvq.report.page import Picture, write_page
from rotvq.report.pictures import several_runs
from rotvq.report.tables import Fact, facts, listed
from rotvq.run_record import RunRecord, load_runs
from rotvq.studies.claim import VERDICTS, Claim, Group, grouped
from rotvq.studies.plan import Run
from rotvq.studies.results import Result, Results, read
from rotvq.studies.study import Study, Suite
from rotvq.studies.table import Table
from rotvq.text import counted
from rotvq.training.config import Config

TEMPLATE = "studies"
_OMITTED = ("Started", "Command", "Seed")
"""Facts that differ between the runs of a study."""


class Opening(NamedTuple):
    """What the page opens with.

    Args:
        result: a sentence; empty if there is none yet.
        first: names of figures of the studies that are shown here instead, in order.
        pictures: further pictures, shown after them.
    """

    result: str = ""
    first: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()


class Contents(NamedTuple):
    """What a suite's report shows: of each study that has a finished run, and at its top.

    Each is a function of all results, the first three of the study's name too.
    """

    tables: Callable[[str, Results], tuple[Table, ...]]
    figures: Callable[[str, Results], tuple[Picture, ...]]
    claims: Callable[[str, Results], tuple[Claim, ...]]
    opening: Callable[[Results], Opening]


@dataclass(frozen=True)
class Section:
    """What the page shows of one study."""

    study: Study
    facts: tuple[Fact, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    claims: tuple[Claim, ...]

    @property
    def is_shown_elsewhere(self) -> bool:
        """Whether other studies show its runs beside theirs."""
        return not (self.tables or self.pictures or self.claims)


@dataclass(frozen=True)
class Page:
    """Everything that the templates show, in the order of the page."""

    title: str
    result: str
    summary: str
    opening: tuple[Picture, ...]
    verdicts: tuple[Group, ...]
    notices: tuple[str, ...]
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in the order of the page."""
        own = (picture for section in self.sections for picture in section.pictures)
        return (*self.opening, *own)


def write_report(
    suite: Suite,
    contents: Contents,
    plan: Sequence[Run],
    out: Path,
    command: Sequence[str],
    shown: Sequence[Path] = (),
) -> Path:
    """Write NAME.html (self-contained), NAME.md and figures; return the path of the HTML file.

    Args:
        suite: whose studies.
        contents: what the page shows of each study.
        plan: all runs; the page names those that are not done.
        out: folder to write into.
        command: the options that every study's command ends with, as ("--preset", "cpu").
        shown: folders of further runs whose reconstructions the page opens with.

    Raises:
        UserError: no run is done, a record is damaged, or `out` cannot be written.
    """
    page = build_page(suite, contents, read(plan), command, load_runs(shown) if shown else ())
    write_page(page, page.pictures, out, suite.name, TEMPLATE)
    return out / f"{suite.name}.html"


def build_page(
    suite: Suite,
    contents: Contents,
    results: Results,
    command: Sequence[str] = (),
    shown: Sequence[RunRecord] = (),
) -> Page:
    """The page of these results, and the reconstructions of further runs."""
    shared = tuple(fact for fact in _facts(results.all) if len(fact.values) == 1)
    sections = []
    for name in results.studies:
        study, runs = suite.studies[name], results.of(name)
        own = [fact for fact in _facts(runs) if fact.name not in {f.name for f in shared}]
        again = shlex.join(["rotvq", suite.command, name, *command])
        facts = (
            _fact("Description", study.description),
            _fact("Training", _trained(runs)),
            *own,
            _fact("Command", again),
        )
        sections.append(
            Section(
                study,
                facts,
                contents.tables(name, results),
                contents.figures(name, results),
                contents.claims(name, results),
            )
        )
    verdicts = Counter(claim.verdict for section in sections for claim in section.claims)
    counts = ", ".join(f"{verdicts[v]} {v}" for v in VERDICTS if verdicts[v])
    opening = contents.opening(results)
    drawn = {picture.name: picture for section in sections for picture in section.pictures}
    names = [f"{name}.png" for name in opening.first if f"{name}.png" in drawn]
    others = several_runs(shown, [run.label for run in shown], "shown")
    return Page(
        title=suite.title,
        result=opening.result,
        summary=f"{suite.summary} {verdicts.total()} claims checked: {counts}.",
        opening=(*(drawn[name] for name in names), *opening.pictures, *others),
        verdicts=grouped({section.study.name: section.claims for section in sections}),
        notices=_notices(suite, results),
        facts=shared,
        sections=tuple(_without(section, names) for section in sections),
    )


def _without(section: Section, names: Sequence[str]) -> Section:
    """The section without the figures that the page opens with."""
    kept = tuple(picture for picture in section.pictures if picture.name not in names)
    return replace(section, pictures=kept)


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
    def each(value: Callable[[Config], int]) -> str:
        return listed([f"{n}" for n in sorted({value(r.run.config) for r in runs})])

    minutes = math.fsum(r.minutes for r in runs)
    return (
        f"{counted(len(runs), 'run')} of {each(lambda c: c.training.epochs)} epochs, width "
        f"{each(lambda c: c.model.width)}, D = {each(lambda c: c.model.dim)}, batch "
        f"{each(lambda c: c.training.batch_size)}; {minutes:.1f} minutes in total"
    )


def _notices(suite: Suite, results: Results) -> tuple[str, ...]:
    absent = [name for name in suite.studies if name not in results.studies]
    notices = [f"Studies not run yet: {', '.join(absent)}."] if absent else []
    missing = [run.name for run in results.missing if run.study not in absent]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        notices.append(f"Runs not finished yet: {', '.join(missing[:5])}{more}.")
    return tuple(notices)
