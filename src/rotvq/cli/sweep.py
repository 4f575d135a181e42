"""rotvq sweep: train a run for each combination of some values, and compare them."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from rotvq import run_folder
from rotvq.cli import train
from rotvq.cli.options import Parser, add_out
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError, first_line
from rotvq.paths import shortened
from rotvq.run_record import load_run
from rotvq.training.config import Config
from rotvq.training.folder import check_same, read_config

EPILOG = """\
All other options are those of `rotvq train` and hold for every run. Run the same command again to
resume a sweep: finished runs are kept. Separate values that contain commas with semicolons.
Examples:
  rotvq sweep --preset smoke --vary training.learning_rate=1e-3,2e-3,4e-3
  rotvq sweep --preset cpu --data FOLDER --out sweeps/estimators \\
    --vary quantizer.estimator=rotation,straight_through --vary training.seed=0,1,2
"""
LONGEST = 150
"""Maximum number of characters in the name of a run folder."""


class Planned(NamedTuple):
    """A run of the sweep: what is varied, as in `training.seed=1`, and what trains it."""

    name: str
    options: train.Options
    config: Config
    command: str


def run(argv: Sequence[str]) -> int:
    """Train what is left of the sweep and write the comparison. Returns the exit status."""
    parser = Parser(
        prog="rotvq sweep",
        description="Train a run for each combination of some values, and compare them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="OPTION=A,B,...",
        help="values of an option of rotvq train (repeatable: every combination is a run)",
    )
    add_out(parser, "output folder", Path("sweep"))
    options, rest = parser.parse_known_args(argv)
    terminal = Terminal()
    planned = _plan(options.vary, rest, options.out)
    failed = []
    for number, each in enumerate(planned, start=1):
        try:
            if _is_done(each):
                terminal.say(f"Run {number} of {len(planned)}, {each.name}: finished before.")
                continue
            terminal.say(f"Run {number} of {len(planned)}, {each.name}:")
            status = train.execute(each.config, each.options, each.command)
        # A value that diverges or needs too much memory must not keep the others from being tried.
        except (UserError, MemoryError, RuntimeError) as error:
            terminal.say(f"  {first_line(error)}")
            failed.append(each.name)
            continue
        if status:
            terminal.say("Run the same command to resume the sweep.")
            return status
    _report(planned, options.out, terminal)
    if failed:
        raise UserError(f"{len(failed)} of {len(planned)} runs failed: {', '.join(failed)}.")
    return 0


def _report(planned: Sequence[Planned], out: Path, terminal: Terminal) -> None:
    """Compare the runs that have finished an epoch."""
    from rotvq.report import write_report

    folders = [each.options.out for each in planned if run_folder.read_epochs(each.options.out)]
    if folders:
        terminal.say(f"Report: {write_report(folders, out)}")


def _plan(varied: Sequence[str], rest: Sequence[str], out: Path) -> list[Planned]:
    """All runs of the sweep; each configuration is checked before anything is trained.

    Raises:
        UserError: no option is varied, an option or value is invalid, or a folder already
            contains a run with another configuration.
    """
    if not varied:
        raise UserError("--vary: expected OPTION=A,B; got none. See rotvq sweep --help.")
    for word in ("--resume", "--overwrite"):
        if word in rest:
            raise UserError(
                f"{word}: expected a sweep, which resumes by itself; got {word}. Remove it, or "
                "choose another --out to start anew."
            )
    named = [_values(text) for text in varied]
    planned = []
    for combination in product(*named):
        name = ",".join(f"{option.rpartition('.')[2]}={value}" for option, value in combination)
        folder = out / shortened(re.sub(r"[^\w.,=+-]", "_", name), LONGEST)
        words = [*rest, *(f"--{option}={value}" for option, value in combination)]
        words += ["--out", str(folder)]
        options, config = train.parse(words)
        if run_folder.is_run(folder):
            check_same(folder, read_config(folder), config, moved=False)
        command = shlex.join(["rotvq", "train", *words])
        planned.append(Planned(name, options._replace(resume=True), config, command))
    if len({each.options.out for each in planned}) < len(planned):
        raise UserError("--vary: expected different values; got one of them twice.")
    return planned


def _values(text: str) -> list[tuple[str, str]]:
    """An option with each of its values; raises as `_plan`."""
    option, equals, values = text.partition("=")
    option = option.removeprefix("--")
    found = [value.strip() for value in values.split(";" if ";" in values else ",")]
    if not equals or "." not in option or not all(found):
        raise UserError(
            f"--vary: expected OPTION=A,B, such as training.learning_rate=1e-3,2e-3; got {text!r}."
        )
    return [(option, value) for value in found]


def _is_done(planned: Planned) -> bool:
    """Whether the run has trained all its epochs and is evaluated."""
    folder = planned.options.out
    if not (folder / run_folder.EVALUATION).exists():
        return False
    return load_run(folder).epochs[-1].number >= planned.config.training.epochs
