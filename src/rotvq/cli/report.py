"""rotvq report: self-contained HTML and Markdown about one run or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rotvq.cli.options import Parser
from rotvq.errors import UserError


def run(argv: Sequence[str]) -> int:
    """Write the report and say where it is. Returns the exit status."""
    parser = Parser(
        prog="rotvq report", description="Write report.html and report.md with figures."
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders that rotvq train wrote")
    parser.add_argument(
        "--out", type=Path, help="folder to write into (default: the run, or the runs' parent)"
    )
    options = parser.parse_args(argv)
    for folder in options.runs:
        if not folder.is_dir():
            raise UserError(
                f"expected the folder of a run; {folder} is none. Make one with rotvq train."
            )
    from rotvq.report import write_report

    shared = Path(os.path.commonpath([folder.resolve() for folder in options.runs]))
    page = write_report(options.runs, options.out or shared)
    print(f"Report: {page}")
    return 0
