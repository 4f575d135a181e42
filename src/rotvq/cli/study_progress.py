"""What a person sees of studies: a live bar over all runs in a terminal, a line a run."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TextColumn

from rotvq.cli.bars import BAR, Live
from rotvq.cli.progress import TrainingProgress
from rotvq.cli.terminal import Terminal, duration
from rotvq.data_processing import ImageData
from rotvq.errors import UserError
from rotvq.studies.plan import Run
from rotvq.training import run_folder

if TYPE_CHECKING:
    from rotvq.evaluation.metrics import Means
    from rotvq.studies.runner import Audience


class StudyProgress(Terminal):
    """Prints how a plan goes, to standard output.

    Args:
        plan: the runs; those that are done count as such.
        live: show a live line in a terminal.
    """

    def __init__(self, plan: Sequence[Run], live: bool = True) -> None:
        super().__init__()
        self.plan, self.live = plan, live
        self.failed: list[Run] = []

    def load_data(self) -> ImageData:
        """The images of all runs, with a word on what they are."""
        return TrainingProgress(self.plan[0].config, quiet=not self.live).load_data()

    @contextmanager
    def following(self, data: ImageData) -> Iterator[Audience]:
        """What the runner is to tell; the live line stands while entered."""
        from rotvq.studies.runner import Audience

        work = _Work(self.plan, len(data.train.images))
        if self.live:
            left = sum(not run.done for run in self.plan)
            self.say(
                f"{len(self.plan)} runs, {left} of them to do; {work.total:,} training images in "
                "all (what two studies share counts once)."
            )
        columns = (
            TextColumn("all runs"),
            BarColumn(BAR),
            TextColumn("{task.percentage:.0f} %, {task.fields[left]}"),
        )
        with Live(*columns, console=self.console, hidden=not self.live) as bar:
            task = bar.add_task("", total=work.total, completed=work.done(), left="")

            def begins(run: Run) -> None:
                work.begins(run)
                bar.details = run.name

            def images(run: Run, seen: int, means: Means) -> None:
                work.sees(run, seen)
                bar.details = f"{run.name}  mse {means.reconstruction_loss:.4f}"
                bar.update(task, completed=work.done(), left=work.time_left())
                if self.live:
                    percent = f"{work.done() / work.total:.0%}"
                    self.log(lambda: f"{bar.details}; {percent} of all, {work.time_left()}")

            def measures(run: Run, name: str) -> None:
                bar.details = f"{run.name}  measuring {name}"

            def ends(run: Run) -> None:
                done = sum(each.done for each in self.plan)
                self.say(
                    f"[{done}/{len(self.plan)}] {run.name}: {_result(run)}; {work.time_left()}"
                )

            def fails(run: Run, error: UserError) -> None:
                self.failed.append(run)
                self.say(f"{run.name} failed: {error}")

            yield Audience(begins, images, measures, ends, fails)


class _Work:
    """How much of a plan is done, in training images."""

    def __init__(self, plan: Sequence[Run], images: int) -> None:
        self.runs = {run.folder: run for run in plan}
        self.sizes = {
            folder: run.config.training.epochs * min(images, run.config.data.train_images or images)
            for folder, run in self.runs.items()
        }
        self.total = sum(self.sizes.values())
        self.seen: dict[Path, int] = {}
        self.resumed: set[Path] = set()
        self.since = time.monotonic()
        self.before = self.done()

    def begins(self, run: Run) -> None:
        """A run is taken up."""
        if run_folder.is_run(run.folder) and not run.trained:
            self.resumed.add(run.folder)

    def sees(self, run: Run, images: int) -> None:
        """A run was trained on so many images in all."""
        if run.folder in self.resumed:
            # What it saw before it was stopped says nothing of the speed now.
            self.resumed.remove(run.folder)
            self.before += images
        self.seen[run.folder] = images

    def done(self) -> int:
        """Images trained on, by this process and, in finished runs, by others."""
        return sum(
            self.sizes[folder] if run.trained else self.seen.get(folder, 0)
            for folder, run in self.runs.items()
        )

    def time_left(self) -> str:
        """In words, from the speed since the start."""
        done, elapsed = self.done(), time.monotonic() - self.since
        if done == self.before:
            return "time left unknown"
        return f"{duration((self.total - done) * elapsed / (done - self.before))} left"


def _result(run: Run) -> str:
    from rotvq.report.records import load_evaluation  # late: it loads matplotlib

    metrics = defaultdict(lambda: math.nan, load_evaluation(run.folder).metrics)
    return (
        f"test MSE {metrics['mse']:.4f}, SSIM {metrics['ssim']:.3f}, perplexity "
        f"{metrics['perplexity']:.0f}, usage {metrics['usage']:.0%}"
    )
