"""Progress of a tokenizer's run: two lines per epoch, and the result."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotvq.cli.run_progress import RunProgress
from rotvq.training.config import Config

if TYPE_CHECKING:
    from rotvq.evaluation.metrics import Means
    from rotvq.training.trainer import Trainer


class TrainingProgress(RunProgress):
    """Prints the progress of a tokenizer's run to standard output."""

    config: Config
    warned = False

    @property
    def method(self) -> str:
        return f"{self.config.quantizer.estimator}, "

    def notes(self, trainer: Trainer) -> list[str]:
        return [trainer.samples.note] if trainer.samples.note else []

    def details(self, means: Means) -> str:
        return (
            f"loss {means.loss:.4f}  mse {means.reconstruction_loss:.4f}  "
            f"perplexity {means.perplexity:.0f}  usage {means.usage:.0%}  "
            f"error {means.relative_error:.1%} of var(z_e)"
        )

    def epoch_lines(self, record: dict[str, Any]) -> list[str]:
        lines = epoch_lines(record, self.config)
        advice = record["codebook"].get("warning")
        if advice and not self.warned:
            self.warned = True
            lines.append(f"  {advice}")
        return lines

    def finish(self, record: dict[str, Any], folder: Path) -> None:
        """Print the result, and the command for a report."""
        for line in summary(record):
            self.say(line)
        name = shlex.quote(str(folder))
        self.say(f"Saved to {folder}. For a report with curves and images: rotvq report {name}")


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
    """The record of an evaluation as lines; with residual levels, a row for each number of them."""
    metrics = record["metrics"]
    return [
        f"{record['split']}, {record['images']:,} images: MSE {metrics['mse']:.5f}, "
        f"PSNR {metrics['psnr']:.2f} dB ({metrics['psnr_per_image']:.2f} dB per image), "
        f"SSIM {metrics['ssim']:.4f} ({metrics['ssim_uniform_7x7']:.4f} with a uniform 7x7 "
        f"window), {metrics['bits_per_image']:g} bits per image",
        f"  perplexity {metrics['perplexity']:.1f}, {metrics['codes_used']:,} codes used "
        f"({metrics['usage']:.1%})",
        *_levels(record.get("levels", [])),
    ]


def _levels(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    return [
        "  levels  bits per image      MSE      PSNR    SSIM",
        *(
            f"  {row['levels']:>6}  {row['bits_per_image']:>14g}  {row['mse']:.5f}  "
            f"{row['psnr']:>5.2f} dB  {row['ssim']:.4f}"
            for row in rows
        ),
    ]
