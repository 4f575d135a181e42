"""Progress of studies: a live bar over all runs in a terminal, and one line per run."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn

from rotvq import run_folder
from rotvq.cli.bars import BAR, Live
from rotvq.cli.terminal import Terminal, duration
from rotvq.data_processing import ImageData
from rotvq.errors import UserError
from rotvq.run_record import load_evaluation
from rotvq.studies.callbacks import StudyCallback
from rotvq.studies.plan import PRIOR, Run


class StudyProgress(Terminal):
    """Prints the progress of a plan to standard output.

    Args:
        plan: the runs, finished ones included.
        live: show a live line in a terminal.
    """

    def __init__(self, plan: Sequence[Run], live: bool = True) -> None:
        super().__init__()
        self.plan, self.live = plan, live
        self.failed: list[Run] = []

    @contextmanager
    def following(self, data: ImageData) -> Iterator[StudyCallback]:
        """A callback for the runner; the bar is shown while the context is open."""
        work = _Work(self.plan, len(data.train.images))
        if self.live:
            left = sum(not run.done for run in self.plan)
            self.say(
                f"{len(self.plan)} runs, {left} to do; {work.total:,} training images in total "
                "(runs shared by studies count once)."
            )
        columns = (
            TextColumn("all runs"),
            BarColumn(BAR),
            TextColumn("{task.percentage:.0f} %, {task.fields[left]}"),
        )
        with Live(*columns, console=self.console, hidden=not self.live) as bar:
            bar.add_task("", total=work.total, completed=work.done(), left="")
            yield _Following(self, bar, work)


class _Following(StudyCallback):
    """Updates the bar, and prints a line per run."""

    def __init__(self, progress: StudyProgress, bar: Live, work: _Work) -> None:
        self.progress, self.bar, self.work = progress, bar, work

    def on_run_begin(self, run: Run) -> None:
        self.run = run
        self.work.start(run)
        self.bar.details = run.name

    def on_images(self, images: int, means: Any) -> None:
        bar, work = self.bar, self.work
        work.update(self.run, images)
        bar.details = f"{self.run.name}  {_value(means)}"
        bar.update(bar.task_ids[0], completed=work.done(), left=work.time_left())
        if self.progress.live:
            percent = f"{work.done() / work.total:.0%}"
            self.progress.log(lambda: f"{bar.details}; {percent} of total, {work.time_left()}")

    def on_measure(self, run: Run, name: str) -> None:
        self.bar.details = f"{run.name}  measuring {name}"

    def on_run_end(self, run: Run) -> None:
        plan = self.progress.plan
        done = sum(each.done for each in plan)
        self.progress.say(
            f"[{done}/{len(plan)}] {run.name}: {_result(run)}; {self.work.time_left()}"
        )

    def on_run_failed(self, run: Run, error: UserError) -> None:
        self.progress.failed.append(run)
        self.progress.say(f"{run.name} failed: {error}")


class _Work:
    """The progress of a plan, in training images."""

    def __init__(self, plan: Sequence[Run], images: int) -> None:
        self.runs = {run.folder: run for run in plan}
        self.models, self.sizes = {}, {}
        for folder, run in self.runs.items():
            own = min(images, run.config.data.train_images or images)
            self.models[folder] = run.config.training.epochs * own
            prior = run.prior.training.epochs * own if run.prior else 0
            self.sizes[folder] = self.models[folder] + prior
        self.total = sum(self.sizes.values())
        self.seen: dict[Path, int] = {}
        self.resumed: set[Path] = set()
        self.since = time.monotonic()
        self.before = self.done()

    def start(self, run: Run) -> None:
        """Note that a run starts or resumes."""
        if run_folder.is_run(run.folder / PRIOR if run.trained else run.folder):
            self.resumed.add(run.folder)

    def update(self, run: Run, images: int) -> None:
        """Note how many images a run, or then its prior, has been trained on in total."""
        if run.folder in self.resumed:
            # Images from before it was stopped do not count towards the current speed.
            self.resumed.remove(run.folder)
            self.before += images
        self.seen[run.folder] = images + (self.models[run.folder] if run.trained else 0)

    def done(self) -> int:
        """Images trained on by this process and, in finished runs, by other processes."""
        return sum(self._done(run) for run in self.runs.values())

    def _done(self, run: Run) -> int:
        if run.done:
            return self.sizes[run.folder]
        trained = self.models[run.folder] if run.trained else 0
        return max(trained, self.seen.get(run.folder, 0))

    def time_left(self) -> str:
        """The time left as text, from the speed since the start."""
        done, elapsed = self.done(), time.monotonic() - self.since
        if done == self.before:
            return "time left unknown"
        return f"{duration((self.total - done) * elapsed / (done - self.before))} left"


def _value(means: Any) -> str:
    """The quality so far, of a tokenizer or of a prior."""
    if hasattr(means, "bits_per_token"):
        return f"prior, {means.bits_per_token:.2f} bits per token"
    return f"mse {means.reconstruction_loss:.4f}"


def _result(run: Run) -> str:
    metrics = defaultdict(lambda: math.nan, load_evaluation(run.folder).metrics)
    return (
        f"test MSE {metrics['mse']:.4f}, SSIM {metrics['ssim']:.3f}, perplexity "
        f"{metrics['perplexity']:.0f}, usage {metrics['usage']:.0%}"
    )
