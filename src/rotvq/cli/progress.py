"""Progress of a run: two lines per epoch, and a bar or a line per minute in between."""

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
from rotvq.training.callbacks import Callback
from rotvq.training.config import Config

if TYPE_CHECKING:
    from rotvq.evaluation.metrics import Means
    from rotvq.training.trainer import Trainer


class TrainingProgress(Terminal):
    """Prints the progress of a run to standard output.

    Args:
        config: the configuration of the run.
        quiet: print nothing.
    """

    def __init__(self, config: Config, quiet: bool = False) -> None:
        super().__init__(quiet)
        self.config = config

    @contextmanager
    def following(self, trainer: Trainer) -> Iterator[Callback]:
        """A callback for the run; the bar is shown while the context is open."""
        options, images = self.config.training, trainer.position.images
        total = options.epochs * trainer.images_per_epoch
        parameters = sum(p.numel() for p in trainer.model.parameters())
        resumed = f", resuming at image {images:,}" if images else ""
        self.say(
            f"Training {parameters:,} parameters for {options.epochs} epochs{resumed}, "
            f"{self.config.quantizer.estimator}, {trainer.precision} on {trainer.device}."
        )
        if trainer.samples.note:
            self.say(f"  {trainer.samples.note}")
        columns = (
            TextColumn("epoch {task.fields[epoch]}/" + str(options.epochs)),
            BarColumn(BAR),
            Speed(),
            TimeRemainingColumn(),
        )
        with Live(*columns, console=self.console) as bar:
            epoch = trainer.position.epoch + 1
            bar.add_task("", total=total, completed=images, epoch=epoch)
            yield _Following(self, bar, images)

    def finish(self, record: dict[str, Any], folder: Path) -> None:
        """Print the result, and the command for a report."""
        for line in summary(record):
            self.say(line)
        name = shlex.quote(str(folder))
        self.say(f"Saved to {folder}. For a report with curves and images: rotvq report {name}")


class _Following(Callback):
    """Updates the bar, and prints two lines per epoch."""

    def __init__(self, progress: TrainingProgress, bar: Live, images: int) -> None:
        self.progress, self.bar, self.first = progress, bar, images
        self.since = time.monotonic()
        self.warned = False

    def on_images(self, images: int, means: Means) -> None:
        bar, epochs = self.bar, self.progress.config.training.epochs
        total = bar.tasks[0].total or 0
        epoch = (images - 1) * epochs // int(total) + 1
        bar.details = (
            f"loss {means.loss:.4f}  mse {means.reconstruction_loss:.4f}  "
            f"perplexity {means.perplexity:.0f}  usage {means.usage:.0%}  "
            f"error {means.relative_error:.1%} of var(z_e)"
        )
        bar.update(bar.task_ids[0], completed=images, epoch=epoch)
        far = counted(images, total, time.monotonic() - self.since, self.first)
        self.progress.log(lambda: f"epoch {epoch}/{epochs}: {far}, {bar.details}")

    def on_bad_step(self, message: str) -> None:
        self.progress.say(message)

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        for line in epoch_lines(record, self.progress.config):
            self.progress.say(line)
        advice = record["codebook"].get("warning")
        if advice and not self.warned:
            self.warned = True
            self.progress.say(f"  {advice}")


def epoch_lines(record: dict[str, Any], config: Config) -> list[str]:
    """The record of an epoch as two lines."""
    train, test, timing = record["train"], record["test"], record["timing"]
    shown = test or train
    split = "validation" if config.data.validation else "test"
    measured = (
        f"{split} mse {test['reconstruction_loss']:.4f}  psnr {test['psnr']:.2f} dB  "
        if test
        else "not tested  "
    )
    return [
        f"epoch {record['epoch']:>3}  train mse {train['reconstruction_loss']:.4f}  {measured}"
        f"usage {shown['usage']:.0%}",
        f"  perplexity {shown['perplexity']:.0f}  error {shown['relative_error']:.1%} of "
        f"var(z_e)  {_dead(record)}{timing['images_per_second']:,.0f} images/s",
    ]


def _dead(record: dict[str, Any]) -> str:
    """The number of dead codes, if any; a fixed grid has none."""
    codebook = record.get("codebook") or {}
    if not codebook.get("dead"):
        return ""
    return f"{codebook['dead']:,} dead  "


def summary(record: dict[str, Any]) -> list[str]:
    """The record of an evaluation as two lines."""
    metrics = record["metrics"]
    return [
        f"{record['split']}, {record['images']:,} images: MSE {metrics['mse']:.5f}, "
        f"PSNR {metrics['psnr']:.2f} dB ({metrics['psnr_per_image']:.2f} dB per image), "
        f"SSIM {metrics['ssim']:.4f} ({metrics['ssim_uniform_7x7']:.4f} with a uniform 7x7 "
        f"window), {metrics['bits_per_image']:g} bits per image",
        f"  perplexity {metrics['perplexity']:.1f}, {metrics['codes_used']} of "
        f"{len(record['counts'])} codes used ({metrics['usage']:.1%})",
    ]
