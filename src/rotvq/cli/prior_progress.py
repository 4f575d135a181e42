"""Progress of a prior's run: a line per epoch, and a bar or a line per minute in between."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from rotvq.cli.bars import BAR, Live, Speed
from rotvq.cli.terminal import Terminal, counted
from rotvq.generation.config import PriorConfig
from rotvq.training.callbacks import Callback

if TYPE_CHECKING:
    from rotvq.generation.data import PriorData
    from rotvq.generation.totals import Means
    from rotvq.generation.trainer import PriorTrainer


class PriorProgress(Terminal):
    """Prints the progress of a run to standard output.

    Args:
        config: the configuration of the run.
        quiet: print nothing.
    """

    def __init__(self, config: PriorConfig, quiet: bool = False) -> None:
        super().__init__(quiet)
        self.config = config

    def describe(self, data: PriorData) -> None:
        """Print what the tokens are."""
        vocabulary, grids = data.vocabulary, data.vocabulary.grids
        shapes = f"{grids[0][0]}x{grids[0][1]}" if len(grids) == 1 else f"{len(grids)} grids"
        sizes = " + ".join(f"{size:,}" for size in vocabulary.codec.codebook_sizes[:8])
        self.say(
            f"{len(data.train):,} training and {len(data.test):,} test images of {shapes} tokens, "
            f"{sizes} codes, {len(vocabulary.classes) or 'no'} classes."
        )
        for note in data.notes:
            self.say(f"  {note}")

    @contextmanager
    def following(self, trainer: PriorTrainer) -> Iterator[Callback]:
        """A callback for the run; the bar is shown while the context is open."""
        epochs, images = self.config.training.epochs, trainer.position.images
        total = epochs * trainer.images_per_epoch
        parameters = sum(p.numel() for p in trainer.model.parameters())
        resumed = f", resuming at image {images:,}" if images else ""
        self.say(
            f"Training {parameters:,} parameters for {epochs} epochs{resumed}, "
            f"{trainer.precision} on {trainer.device}."
        )
        columns = (
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(BAR),
            Speed(),
            TimeRemainingColumn(),
        )
        with Live(*columns, console=self.console) as bar:
            bar.add_task("", total=total, completed=images, epoch=trainer.position.epoch + 1)
            yield _Following(self, bar, images)

    def finish(self, record: dict[str, Any], folder: Path) -> None:
        """Print the result, and the command that draws images."""
        for line in summary(record):
            self.say(line)
        name = shlex.quote(str(folder))
        self.say(f"Saved to {folder}. To draw images: rotvq sample {name} -n 64 -o samples")


class _Following(Callback):
    """Updates the bar, and prints a line per epoch."""

    def __init__(self, progress: PriorProgress, bar: Live, images: int) -> None:
        self.progress, self.bar, self.first = progress, bar, images
        self.since = time.monotonic()

    def on_images(self, images: int, means: Means) -> None:
        bar, epochs = self.bar, self.progress.config.training.epochs
        total = bar.tasks[0].total or 0
        epoch = (images - 1) * epochs // int(total) + 1
        bar.details = f"{means.bits_per_token:.3f} bits per token"
        bar.update(bar.task_ids[0], completed=images, epoch=epoch)
        far = counted(images, total, time.monotonic() - self.since, self.first)
        self.progress.log(lambda: f"epoch {epoch}/{epochs}: {far}, {bar.details}")

    def on_bad_step(self, message: str) -> None:
        self.progress.say(message)

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        train, test, timing = record["train"], record["test"], record["timing"]
        measured = f"test {test['bits_per_token']:.3f}" if test else "not tested"
        self.progress.say(
            f"epoch {record['epoch']:>3}  bits per token: train {train['bits_per_token']:.3f}  "
            f"{measured}  {timing['images_per_second']:,.0f} images/s"
        )


def summary(record: dict[str, Any]) -> list[str]:
    """The record of an evaluation as one or two lines."""
    metrics = record["metrics"]
    lines = [
        f"{record['split']}, {record['images']:,} images: {metrics['bits_per_token']:.3f} bits per "
        f"token, {metrics['bits_per_image']:.1f} per image; as a fixed-length code "
        f"{metrics['fixed_bits_per_image']:.1f}, entropy of code use "
        f"{metrics['entropy_per_token']:.3f} per token"
    ]
    if "bits_per_token_without_class" in metrics:
        lines.append(
            f"  without a given class {metrics['bits_per_token_without_class']:.3f} bits per "
            f"token, {metrics['bits_per_image_without_class']:.1f} per image"
        )
    return lines
