"""The three reports: on one run, a comparison of a few, a sweep of many.

Each begins with a sentence that has the result; pictures, the first metrics and curves follow, and
how it was made is folded at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rotvq.errors import UserError
from rotvq.report import metrics, pictures, sections, sentences, tables
from rotvq.report.codebook import Looks
from rotvq.report.page import Page, Picture, Section, Table, write_page
from rotvq.report.tables import MISSING, Cell, Row
from rotvq.run_record import RunRecord, load_runs

MOST_COLUMNS = 4
"""Runs that are compared side by side; more are a sweep, with a row for each."""


def write_report(runs: Sequence[Path], out: Path, looks: Looks | None = None) -> Path:
    """Write report.html (self-contained), report.md and figures/*.png; return the HTML's path.

    Args:
        runs: folders of runs.
        out: folder to write into.
        looks: what the model of a single run draws.

    Raises:
        UserError: a run's records cannot be read, or `out` cannot be written.
    """
    page = build_page(load_runs(runs), looks)
    write_page(page, page.pictures, Path(out), "report")
    return Path(out) / "report.html"


def build_page(runs: Sequence[RunRecord], looks: Looks | None = None) -> Page:
    """The page on these runs, all of tokenizers or all of priors.

    Raises:
        UserError: some are of tokenizers and some of priors.
    """
    if any(run.is_prior != runs[0].is_prior for run in runs):
        raise UserError(
            "expected runs of tokenizers or runs of priors; got both. Write a report on each kind."
        )
    if len(runs) == 1:
        return _one(runs[0], looks)
    return _comparison(runs) if len(runs) <= MOST_COLUMNS else _sweep(runs)


def _one(run: RunRecord, looks: Looks | None) -> Page:
    runs = (run,)
    usage = pictures.usage(runs)
    codebook = (*usage, *pictures.health(run), *pictures.codes(looks))
    rows = metrics.metric_rows(runs, metrics.first_metrics())
    found = [
        _shown(runs, pictures.samples(runs) if run.is_prior else pictures.one_run(run, looks)),
        Section("Metrics", table=Table("Metrics", (), rows), note=sections.measured(runs)),
        *_efforts(run),
        Section("Curves", pictures=(pictures.curves(runs),)),
    ]
    if not run.is_prior:
        found.append(Section("Codebook", "" if usage else "Not evaluated yet.", codebook))
        found += _progress(runs)
    found += [sections.all_metrics(runs), *sections.how(runs)]
    return Page(run.label, sentences.one(run), sections.notices(runs), tuple(found))


def _efforts(run: RunRecord) -> list[Section]:
    """The metrics that change with the effort of the search for tokens, where it was measured."""
    if not run.efforts or not run.evaluation:
        return []
    measured = {0: run.evaluation, **run.efforts}
    each = [replace(run, evaluation=found) for found in measured.values()]
    rows = metrics.metric_rows(each, metrics.first_metrics())
    changing = tuple(row for row in rows if len({c.text for c in row.cells} - {MISSING}) > 1)
    labels = tuple(f"effort {effort}" for effort in measured)
    note = "Tokens searched for, at the same bits; effort 0 takes the nearest codes."
    return [Section("Effort", table=Table("Effort", labels, changing), note=note)]


def _comparison(runs: Sequence[RunRecord]) -> Page:
    differing, _ = tables.config_rows(runs)
    labels = tuple(run.label for run in runs)
    rows = metrics.metric_rows(runs, metrics.first_metrics())
    columns = labels
    if len(runs) == 2:
        columns = (*labels, "change")
        rows = tuple(metrics.with_change(row) for row in rows)
        differing = tuple(Row(row.name, (*row.cells, Cell(""))) for row in differing)
    drawn = pictures.samples(runs) if runs[0].is_prior else pictures.several_runs(runs, labels)
    same = "" if differing else "The runs have the same configuration."
    table = Table("Differences and metrics", columns, (*differing, *rows))
    found = [
        _shown(runs, drawn),
        Section("Metrics", same, table=table, note=sections.measured(runs)),
        Section("Curves", pictures=(pictures.curves(runs),)),
    ]
    if not runs[0].is_prior:
        usage = pictures.usage(runs)
        found.append(Section("Codebook", "" if usage else "Not evaluated yet.", usage))
        found += _progress(runs)
    found += [sections.all_metrics(runs), *sections.how(runs)]
    title = f"{tables.listed(labels)} compared"
    return Page(title, sentences.comparison(runs), sections.notices(runs), tuple(found))


def _sweep(runs: Sequence[RunRecord]) -> Page:
    runs = metrics.ranked(runs)
    # Settings that older runs do not record come last.
    differing = sorted(tables.config_rows(runs)[0], key=lambda row: Cell(MISSING) in row.cells)
    names = tables.short_names([row.name for row in differing])
    parameters = [(n, [c.text for c in row.cells]) for n, row in zip(names, differing, strict=True)]
    chosen = (runs[0], runs[len(runs) // 2], runs[-1])
    every: tuple[Picture, ...] = ()
    if runs[0].is_prior:
        drawn = pictures.samples(chosen)
    else:
        labels = [f"{word}: {r.label}" for word, r in zip(sentences.PLACES, chosen, strict=True)]
        drawn = pictures.several_runs(chosen, labels)
        every = pictures.several_runs(runs, [run.label for run in runs], "every_run", first=True)
    found = [
        _shown(runs, drawn),
        Section("Parameters", pictures=pictures.over_parameters(runs, parameters)),
        Section("Runs", table=_runs(runs, names, differing), note=sections.measured(runs)),
        Section("Curves", pictures=(pictures.sweep_curves(runs),)),
    ]
    if every:
        found.append(Section("Reconstructions of every run", pictures=every, is_folded=True))
    found += sections.how(runs)
    title = f"{len(runs)} runs compared"
    return Page(title, sentences.sweep(runs, names), sections.notices(runs), tuple(found))


def _runs(runs: Sequence[RunRecord], names: Sequence[str], differing: Sequence[Row]) -> Table:
    """A row for each run: what differs between them, then their metrics."""
    first = {metric.name: metric.short for metric in metrics.first_metrics()}
    measured = metrics.metric_rows(runs, metrics.first_metrics())
    changing = [row for row in measured if len({cell.text for cell in row.cells}) > 1]
    columns = (*names, *(first[row.name] for row in changing))
    cells = zip(*(row.cells for row in (*differing, *changing)), strict=True)
    rows = [Row(run.label, some) for run, some in zip(runs, cells, strict=True)]
    return Table("Runs", columns, tuple(rows), first="run", sortable=True)


def _shown(runs: Sequence[RunRecord], drawn: tuple[Picture, ...]) -> Section:
    title = "Samples" if runs[0].is_prior else "Reconstructions"
    return Section(title, "" if drawn else f"No {title.lower()} were recorded.", drawn)


def _progress(runs: Sequence[RunRecord]) -> list[Section]:
    drawn = pictures.progress(runs)
    return [Section("Progress", pictures=drawn)] if drawn else []
