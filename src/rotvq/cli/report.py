"""rotvq report: write a self-contained HTML page and Markdown on one or more runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError


def run(argv: Sequence[str]) -> int:
    """Write the report and print its path. Returns the exit status."""
    parser = Parser(
        prog="rotvq report", description="Write report.html and report.md with figures."
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders written by rotvq train")
    parser.add_argument(
        "--out",
        type=Path,
        help="output folder (default: the run's folder, or report for several runs)",
    )
    options = parser.parse_args(argv)
    for folder in options.runs:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: expected a run folder; found none. Pass the folder that "
                "`rotvq train --out` wrote."
            )
    from rotvq.report import write_report

    alone = options.runs[0] if len(options.runs) == 1 else Path("report")
    page = write_report(options.runs, options.out or alone)
    Terminal().say(f"Report: {page}")
    return 0
