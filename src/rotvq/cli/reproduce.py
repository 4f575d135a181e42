"""rotvq reproduce: run the paper's studies and report them next to the paper."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rotvq.cli.images import load_images
from rotvq.cli.options import Parser, add_out, check_positive
from rotvq.cli.side_by_side import side_by_side
from rotvq.cli.study_progress import StudyProgress
from rotvq.guarded import check_not_file
from rotvq.paths import expanded
from rotvq.studies import paper
from rotvq.studies.plan import Run, check, make_plan
from rotvq.studies.study import Suite
from rotvq.text import printable

if TYPE_CHECKING:
    from rotvq.studies.page import Contents

ALL = "all"
EPILOG = """\
studies:
{studies}

Finished runs are not repeated; stopped or killed ones resume. At the end, a report on all finished
runs in the folder is written. Examples:
"""
EXAMPLES = """\
  rotvq reproduce all --preset smoke
  rotvq reproduce table2 table3 --preset cpu --data cifar-10-python.tar.gz
  rotvq reproduce estimators --preset cpu --variants rotation straight_through --seeds 5
  rotvq reproduce all --preset paper --jobs 6
"""


def run(argv: Sequence[str]) -> int:
    """Run what is left of the given studies and write the report. Returns the exit status."""
    description = "Train and measure the paper's studies, and report them next to the paper."
    return run_suite(paper.SUITE, paper.contents, argv, description, EXAMPLES)


def run_suite(
    suite: Suite,
    contents: Callable[[], Contents],
    argv: Sequence[str],
    description: str,
    examples: str,
) -> int:
    """Run what is left of a suite's studies and write the report. Returns the exit status.

    Args:
        suite: the studies.
        contents: imports and returns the contents of the report.
        argv: the arguments after the command.
        description, examples: shown by --help.
    """
    options = _parse(suite, argv, description, examples)
    out = options.out or Path(suite.name) / options.preset
    check_not_file(out)
    named = [name for name in options.studies if name != ALL]
    studies = [*suite.studies, *named] if ALL in options.studies else named
    planned = partial(
        make_plan, suite, options.preset, out, seeds=options.seeds, source=options.data
    )
    plan = planned(studies=studies, variants=options.variants)
    for each in plan:
        check(each)
    status = 0
    everything = planned()
    if options.data or not all(each.done for each in plan):  # other images are refused
        work = partial(_work, suite, plan, everything, out, options)
        status = side_by_side(options.jobs, work) if options.jobs > 1 else work()
    if status > 128:
        print(printable(f"Stopped. Everything is saved in {out}; run the same command to resume."))
    if any(each.done for each in everything):
        # Imported late, because matplotlib is slow to import.
        from rotvq.studies.page import write_report

        seeds = ["--seeds", str(options.seeds)] if options.seeds else []
        command = [*_common(options, out), *seeds]
        report = write_report(suite, contents(), everything, out, command, options.show)
        print(printable(f"Report: {report}"))
    return status


def _work(
    suite: Suite,
    plan: Sequence[Run],
    everything: Sequence[Run],
    out: Path,
    options: argparse.Namespace,
) -> int:
    progress = StudyProgress(plan, live=options.jobs == 1)
    data = load_images(plan[0].config, quiet=options.jobs > 1)
    # Imported late, because torch is slow to import: bad options or data are reported first.
    from rotvq.studies.runner import check_images, run_plan
    from rotvq.training.interrupt import Stopped

    check_images(everything, data)

    def command(run: Run) -> str:
        which = ["--variants", run.variant.name, "--seeds", str(run.seed + 1)]
        return shlex.join(["rotvq", suite.command, run.study, *_common(options, out), *which])

    try:
        with progress.following(data) as callback:
            run_plan(plan, data, out, command=command, callback=callback)
    except Stopped as stopped:
        return 128 + stopped.number
    return 1 if progress.failed else 0


def _common(options: argparse.Namespace, out: Path) -> list[str]:
    """The options of a command that repeats a study."""
    source = ["--data", options.data] if options.data else []
    return ["--preset", options.preset, *source, "--out", str(out)]


def _parse(
    suite: Suite, argv: Sequence[str], description: str, examples: str
) -> argparse.Namespace:
    width = max(map(len, suite.studies))
    lines = [f"  {s.name:<{width}}  {s.title} ({s.description})" for s in suite.studies.values()]
    parser = Parser(
        prog=f"rotvq {suite.command}",
        description=description,
        epilog=EPILOG.format(studies="\n".join([*lines, f"  {ALL:<{width}}  all of them"]))
        + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "studies", nargs="+", metavar="STUDY", help="one or more of the studies below"
    )
    parser.add_argument(
        "--preset",
        default="cpu",
        choices=[*suite.presets],
        help="size of the studies (default: cpu)",
    )
    parser.add_argument("--data", help="source of the images (default: the preset's)")
    add_out(parser, f"output folder (default: {suite.name}/PRESET)")
    parser.add_argument(
        "--variants", nargs="+", default=[], metavar="NAME", help="run only these variants"
    )
    parser.add_argument("--seeds", type=int, help="seeds per variant (default: the preset's)")
    parser.add_argument(
        "--show",
        type=expanded,
        nargs="+",
        default=[],
        metavar="RUN",
        help="folders of further runs whose reconstructions the report opens with",
    )
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs (default: 1)")
    options = parser.parse_args(argv)
    check_positive(options, "seeds", "jobs")
    return options
