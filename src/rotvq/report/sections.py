"""Sections that every report has: notices, metrics, and what is folded at the end."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rotvq import run_folder
from rotvq.report import metrics, tables
from rotvq.report.page import Section, Table
from rotvq.run_record import RunRecord

LOSSES = (
    "Codebook and commitment losses are in the units of each run's own latents and cannot be "
    "compared between runs."
)


def notices(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """What keeps the numbers from being complete or comparable; each sentence once."""
    said: dict[str, list[str]] = {}
    for run in runs:
        for message in _about(run):
            said.setdefault(message, []).append(run.label)
    found = [f"{_names(labels)}: {message}" for message, labels in said.items()]
    missing = [run for run in runs if not run.evaluation and not run.is_prior]
    if missing:
        again = _evaluate(missing[0]) if len(missing) == 1 else "rotvq evaluate RUN for each"
        found.append(f"{_names([run.label for run in missing])}: not evaluated yet. Run: {again}")
    if not tables.judged_alike(runs):
        found.append(
            "The runs were measured with different classifiers; their Fréchet distances and "
            "accuracies cannot be compared."
        )
    if not tables.comparable(runs):
        found.append("The runs were tested on different images; their metrics cannot be compared.")
    return tuple(found)


def measured(runs: Sequence[RunRecord]) -> str:
    """Which images the metrics are of."""
    evaluations = [run.evaluation for run in runs if run.evaluation]
    splits = dict.fromkeys(f"{e.images:,} images of the {e.split} split" for e in evaluations)
    return f"Measured on {' or '.join(splits)}." if splits else ""


def all_metrics(runs: Sequence[RunRecord]) -> Section:
    """Every metric, folded."""
    labels = tuple(run.label for run in runs)
    table = Table("All metrics", labels, metrics.metric_rows(runs))
    note = "" if runs[0].is_prior or len(runs) == 1 else LOSSES
    return Section("All metrics", table=table, note=note, is_folded=True)


def how(runs: Sequence[RunRecord]) -> tuple[Section, ...]:
    """How the runs were measured and made, and what reproduces them; all folded."""
    protocol = tables.protocol(runs)
    _, common = tables.config_rows(runs)
    shared = "Configuration" if len(runs) == 1 else "Shared configuration"
    commands = tuple(command for run in runs for command in _commands(run))
    return (
        Section(
            "Protocol",
            "" if protocol else "Not evaluated yet.",
            facts=protocol,
            is_folded=True,
        ),
        Section(shared, table=Table(shared, ("value",), common, numbers=False), is_folded=True),
        Section("Provenance", facts=tables.facts(runs), is_folded=True),
        Section("How to reproduce", commands=commands, is_folded=True),
    )


def _about(run: RunRecord) -> list[str]:
    warning = run.epochs[-1].codebook.get("warning")
    what = "samples" if run.is_prior else "reconstructions"
    absent = [] if run.pictures else [f"no {what} recorded."]
    unfinished = [f"{tables.length(run)} are done."] if tables.is_unfinished(run) else []
    return [*run.notes, *unfinished, *([str(warning)] if warning else []), *absent]


def _names(labels: Sequence[str]) -> str:
    shown = list(labels[:4])
    more = [f"{len(labels) - 4} more"] if len(labels) > 4 else []
    return tables.listed([*shown, *more])


def _commands(run: RunRecord) -> tuple[str, ...]:
    """Commands with the configuration saved with the run, as the user's file may have changed."""
    path = _shown(run.path)
    again = path.with_name(f"{path.name}-again") if path.name else Path("again")
    saved, out = shlex.quote(str(path / run_folder.CONFIG)), shlex.quote(str(again))
    if run.is_prior:
        return (f"rotvq prior --config {saved} --out {out}",)
    return f"rotvq train --config {saved} --out {out}", _evaluate(run)


def _evaluate(run: RunRecord) -> str:
    return f"rotvq evaluate {shlex.quote(str(_shown(run.path)))}"


def _shown(path: Path) -> Path:
    """Relative to the current folder where it is inside it."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd())
    return path
