"""rotvq report: write a self-contained HTML page and Markdown on one or more runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rotvq import run_folder
from rotvq.cli.options import Parser, add_out
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.paths import expanded

if TYPE_CHECKING:
    from rotvq.report.codebook import Looks
    from rotvq.run_record import RunRecord


def run(argv: Sequence[str]) -> int:
    """Write the report and print its path. Returns the exit status."""
    parser = Parser(
        prog="rotvq report", description="Write report.html and report.md with figures."
    )
    parser.add_argument(
        "runs", type=expanded, nargs="+", help="folders written by rotvq train or rotvq prior"
    )
    add_out(parser, "output folder (default: the run's folder, or report for several runs)")
    options = parser.parse_args(argv)
    for folder in options.runs:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: expected a run folder; found none. Pass the folder that "
                "`rotvq train --out` wrote."
            )
    from rotvq.report import load_runs, write_report

    terminal = Terminal()
    runs = load_runs(options.runs)
    alone = options.runs[0] if len(runs) == 1 else Path("report")
    looks = _looks(runs[0], terminal) if len(runs) == 1 else None
    page = write_report(options.runs, options.out or alone, looks)
    terminal.say(f"Report: {page}")
    return 0


def _looks(run: RunRecord, terminal: Terminal) -> Looks | None:
    """What the model of a run draws; None, and why, if it cannot."""
    if run.is_prior or not run.pictures or not (run.path / run_folder.WEIGHTS).exists():
        return None
    # Imported late, because torch is slow to import.
    from rotvq.plotting import looks
    from rotvq.report import tiles
    from rotvq.training.build import load_model

    originals = tiles.pairs_of(run, max(run.pictures)).originals
    try:
        return looks(load_model(run.path), originals)
    except UserError as error:
        terminal.say(f"Tokens and codes are not drawn: {error}")
        return None
