"""Progress of a run of any kind: lines per epoch, and a bar or a line per minute in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from rotvq.cli.bars import BAR, Live, Speed
from rotvq.cli.terminal import Terminal, counted
from rotvq.training.callbacks import Callback

if TYPE_CHECKING:
    from rotvq.training.lifecycle import Lifecycle


class RunProgress(Terminal):
    """Prints the progress of a run to standard output; subclasses say what is measured.

    Args:
        config: the configuration of the run.
        quiet: print nothing.
    """

    def __init__(self, config: Any, quiet: bool = False) -> None:
        super().__init__(quiet)
        self.config = config

    @property
    def method(self) -> str:
        """How the run trains, followed by a comma; empty if there is only one way."""
        return ""

    def notes(self, trainer: Any) -> list[str]:
        """What to say before training starts."""
        return []

    def details(self, means: Any) -> str:
        """The means so far, in a line."""
        raise NotImplementedError

    def epoch_lines(self, record: dict[str, Any]) -> list[str]:
        """The record of an epoch, in lines."""
        raise NotImplementedError

    @contextmanager
    def following(self, trainer: Lifecycle[Any, Any]) -> Iterator[Callback]:
        """A callback for the run; the bar is shown while the context is open."""
        epochs, images = self.config.training.epochs, trainer.position.images
        total = epochs * trainer.images_per_epoch
        parameters = sum(p.numel() for p in trainer.model.parameters())
        plural = "" if epochs == 1 else "s"
        resumed = f", resuming at image {images:,}" if images else ""
        self.say(
            f"Training {parameters:,} parameters for {epochs} epoch{plural}{resumed}, "
            f"{self.method}{trainer.precision} on {trainer.device}."
        )
        for note in self.notes(trainer):
            self.say(f"  {note}")
        columns = (
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(BAR),
            Speed(),
            TimeRemainingColumn(),
        )
        with Live(*columns, console=self.console) as bar:
            bar.add_task("", total=total, completed=images, epoch=trainer.position.epoch + 1)
            yield _Following(self, bar, images)


class _Following(Callback):
    """Updates the bar, and prints the lines of each epoch."""

    def __init__(self, progress: RunProgress, bar: Live, images: int) -> None:
        self.progress, self.bar, self.first = progress, bar, images
        self.since = time.monotonic()

    def on_images(self, images: int, means: Any) -> None:
        bar, epochs = self.bar, self.progress.config.training.epochs
        total = bar.tasks[0].total or 0
        epoch = (images - 1) * epochs // int(total) + 1
        bar.details = self.progress.details(means)
        bar.update(bar.task_ids[0], completed=images, epoch=epoch)
        far = counted(images, total, time.monotonic() - self.since, self.first)
        self.progress.log(lambda: f"epoch {epoch}/{epochs}: {far}, {bar.details}")

    def on_bad_step(self, message: str) -> None:
        self.progress.say(message)

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        for line in self.progress.epoch_lines(record):
            self.progress.say(line)
