"""rotvq reproduce: the paper's tables and figures, measured, and a report beside the paper's."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from rotvq.cli.options import Parser
from rotvq.cli.side_by_side import side_by_side
from rotvq.cli.study_progress import StudyProgress
from rotvq.errors import UserError
from rotvq.studies.plan import Run, check, make_plan
from rotvq.studies.study import Suite
from rotvq.studies.suites import PAPER
from rotvq.text import printable

ALL = "all"
EPILOG = """\
studies:
{studies}

Runs that are done are not done again; one that was stopped or killed goes on where it was. At the
end a report is written over everything that is done in the folder. Examples:
  rotvq reproduce all --preset smoke
  rotvq reproduce table2 table3 --preset cpu --data cifar-10-python.tar.gz
  rotvq reproduce estimators --preset cpu --variants rotation straight_through --seeds 5
  rotvq reproduce all --preset paper --jobs 6
"""


def run(argv: Sequence[str]) -> int:
    """Do the runs of the studies named that are not done, write the report. Returns the status."""
    description = "Train and measure the paper's studies and report them beside the paper."
    return run_suite(PAPER, "rotvq.studies.paper", argv, description, EPILOG)


def run_suite(
    suite: Suite, package: str, argv: Sequence[str], description: str, epilog: str
) -> int:
    """Do what is left of a suite's studies, write its report. Returns the exit status.

    Args:
        suite: the studies.
        package: whose module `contents` says what the report says. Its last name is that of the
            folder, if the command line names none.
        argv: the command line after the verb.
        description: for --help.
        epilog: for --help, with a place for the list of {studies}.
    """
    name = package.rsplit(".", 1)[1]
    options = _parse(suite, argv, name, description, epilog)
    out = options.out or Path(name) / options.preset
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: expected a folder; {out} is a file. Choose another name.")
    named = [name for name in options.studies if name != ALL]
    studies = [*suite.studies, *named] if ALL in options.studies else named
    planned = partial(
        make_plan,
        options.preset,
        out,
        suite=suite,
        seeds=options.seeds,
        source=options.data,
    )
    plan = planned(studies=studies, variants=options.variants)
    for each in plan:
        check(each)
    status = 0
    everything = planned()
    if not all(each.done for each in plan):
        work = partial(_work, suite, plan, everything, out, options)
        status = side_by_side(options.jobs, work) if options.jobs > 1 else work()
    if status > 128:
        print(printable(f"Stopped; everything is saved in {out}. The same command goes on."))
    if any(each.done for each in everything):
        # Late: matplotlib takes its time.
        from rotvq.studies.paper.page import write_report

        contents = import_module(f"{package}.contents").CONTENTS
        seeds = ["--seeds", str(options.seeds)] if options.seeds else []
        command = [*_common(options, out), *seeds]
        print(printable(f"Report: {write_report(contents, everything, out, command)}"))
    return status


def _work(
    suite: Suite,
    plan: Sequence[Run],
    everything: Sequence[Run],
    out: Path,
    options: argparse.Namespace,
) -> int:
    progress = StudyProgress(plan, live=options.jobs == 1)
    data = progress.load_data()
    # Late: torch takes its time, and bad options or data are answered before.
    from rotvq.studies.runner import check_images, work
    from rotvq.training.interrupt import Stopped

    check_images(everything, data)

    def command(run: Run) -> str:
        which = ["--variants", run.variant.name, "--seeds", str(run.seed + 1)]
        return shlex.join(["rotvq", suite.verb, run.study, *_common(options, out), *which])

    try:
        with progress.following(data) as callback:
            work(plan, data, out, command=command, callback=callback)
    except Stopped as stopped:
        return 128 + stopped.number
    return 1 if progress.failed else 0


def _common(options: argparse.Namespace, out: Path) -> list[str]:
    """The options that make a study again."""
    source = ["--data", options.data] if options.data else []
    return ["--preset", options.preset, *source, "--out", str(out)]


def _parse(
    suite: Suite, argv: Sequence[str], name: str, description: str, epilog: str
) -> argparse.Namespace:
    width = max(map(len, suite.studies))
    lines = [f"  {s.name:<{width}}  {s.title} ({s.stands_for})" for s in suite.studies.values()]
    parser = Parser(
        prog=f"rotvq {suite.verb}",
        description=description,
        epilog=epilog.format(studies="\n".join([*lines, f"  {ALL:<{width}}  all of them"])),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="one or more of those below")
    parser.add_argument(
        "--preset", default="cpu", choices=[*suite.presets], help="size (default: cpu)"
    )
    parser.add_argument("--data", help="images (default: the preset's own source)")
    parser.add_argument("--out", type=Path, help=f"folder (default: {name}/PRESET)")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME", help="only these rows")
    parser.add_argument("--seeds", type=int, help="seeds a variant (default: the preset's)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    options = parser.parse_args(argv)
    for option in ("seeds", "jobs"):
        value = getattr(options, option)
        if value is not None and value < 1:
            raise UserError(f"--{option}: expected 1 or more; got {value}.")
    return options
