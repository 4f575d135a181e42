"""rotvq report: self-contained HTML and Markdown about one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError


def run(argv: Sequence[str]) -> int:
    """Write the report and say where it is. Returns the exit status."""
    parser = Parser(
        prog="rotvq report", description="Write report.html and report.md with figures."
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders that rotvq train wrote")
    parser.add_argument(
        "--out", type=Path, help="folder to write into (default: the run; of several runs, report)"
    )
    options = parser.parse_args(argv)
    for folder in options.runs:
        if not folder.is_dir():
            raise UserError(
                f"expected the folder of a run; {folder} is none. Make one with rotvq train."
            )
    from rotvq.report import write_report

    alone = options.runs[0] if len(options.runs) == 1 else Path("report")
    page = write_report(options.runs, options.out or alone)
    Terminal().say(f"Report: {page}")
    return 0
