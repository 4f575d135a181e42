"""What a person sees of a run: two lines an epoch; between them a bar, or a line a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from rotvq.cli.bars import BAR, Live, Speed
from rotvq.cli.terminal import Terminal, counted
from rotvq.data_processing import ImageData, load
from rotvq.text import printable
from rotvq.training.config import Config

if TYPE_CHECKING:
    from rotvq.evaluation.metrics import Means
    from rotvq.training.listener import Listener
    from rotvq.training.loop import Trainer


class TrainingProgress(Terminal):
    """Prints how a run goes, to standard output.

    Args:
        config: of the run.
        quiet: print nothing.
    """

    def __init__(self, config: Config, quiet: bool = False) -> None:
        super().__init__(quiet)
        self.config = config

    def load_data(self) -> ImageData:
        """The run's images, with a word on what they are."""
        wanted = self.config.data
        with self.console.status(escape(f"Loading images from {printable(wanted.source)}")):
            data = load(
                wanted.source,
                size=wanted.size,
                channels=self.config.model.channels,
                validation=wanted.validation,
                crops=wanted.crops == "random",
                bits=wanted.bits,
            )
        _, c, h, w = data.train.images.shape
        train = min(len(data.train.images), wanted.train_images or len(data.train.images))
        test = min(len(data.test.images), wanted.test_images or len(data.test.images))
        held = f", {wanted.validation:,} validation" if wanted.validation else ""
        self.say(f"{data.name}: {train:,} training{held} and {test:,} test images, {c}x{h}x{w}.")
        for note in data.notes:
            self.say(f"  {note}")
        return data

    @contextmanager
    def following(self, trainer: Trainer) -> Iterator[Listener]:
        """A listener for the run; the bar is drawn while entered."""
        from rotvq.training.listener import Listener

        options, at = self.config.training, trainer.position
        per_epoch = trainer.steps * options.batch_size
        parameters = sum(p.numel() for p in trainer.model.parameters())
        begin = f" from image {at.images:,} on" if at.images else ""
        self.say(
            f"Training {parameters:,} parameters for {options.epochs} epochs{begin}, "
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
        first, since = at.images, time.monotonic()
        with Live(*columns, console=self.console) as bar:
            total = options.epochs * per_epoch
            task = bar.add_task("", total=total, completed=at.images, epoch=at.epoch + 1)

            def images(seen: int, means: Means) -> None:
                epoch = (seen - 1) // per_epoch + 1
                bar.details = (
                    f"loss {means.loss:.4f}  mse {means.reconstruction_loss:.4f}  "
                    f"perplexity {means.perplexity:.0f}  usage {means.usage:.0%}  "
                    f"error {means.relative_error:.1%} of var(z_e)"
                )
                bar.update(task, completed=seen, epoch=epoch)
                far = counted(seen, total, time.monotonic() - since, first)
                self.log(lambda: f"epoch {epoch}/{options.epochs}: {far}, {bar.details}")

            warned = False

            def epoch(record: dict[str, Any]) -> None:
                nonlocal warned
                self._epoch(record)
                advice = record["codebook"].get("warning")
                if advice and not warned:
                    warned = True
                    self.say(f"  {advice}")

            yield Listener(images=images, trouble=self.say, epoch=epoch)

    def _epoch(self, record: dict[str, Any]) -> None:
        train, test, timing = record["train"], record["test"], record["timing"]
        shown = test or train
        split = "validation" if self.config.data.validation else "test"
        measured = (
            f"{split} mse {test['reconstruction_loss']:.4f}  psnr {test['psnr']:.2f} dB  "
            if test
            else "not tested  "
        )
        self.say(
            f"epoch {record['epoch']:>3}  train mse {train['reconstruction_loss']:.4f}  {measured}"
            f"usage {shown['usage']:.0%}"
        )
        self.say(
            f"  perplexity {shown['perplexity']:.0f}  error {shown['relative_error']:.1%} of "
            f"var(z_e)  {_dead(record)}{timing['images_per_second']:,.0f} images/s"
        )

    def finish(self, record: dict[str, Any], folder: Path) -> None:
        """The result, and what can be done with it."""
        for line in summary(record):
            self.say(line)
        self.say(f"Saved in {folder}. A page about it: rotvq report {folder}")


def _dead(record: dict[str, Any]) -> str:
    """How many dead codes there are, if any; a fixed grid has none."""
    codebook = record.get("codebook") or {}
    if not codebook.get("dead"):
        return ""
    return f"{codebook['dead']:,} dead  "


def summary(record: dict[str, Any]) -> list[str]:
    """An evaluation's record in a few words."""
    metrics = record["metrics"]
    return [
        f"{record['split']}, {record['images']:,} images: MSE {metrics['mse']:.5f}, "
        f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics['ssim']:.4f}, "
        f"{metrics['bits_per_image']:g} bits an image",
        f"  perplexity {metrics['perplexity']:.1f}, {metrics['codes_used']} of "
        f"{len(record['counts'])} codes used ({metrics['usage']:.1%})",
    ]
