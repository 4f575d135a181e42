"""Progress of a prior's run: the tokens, a line per epoch, and the result."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotvq import run_folder
from rotvq.cli.run_progress import RunProgress

if TYPE_CHECKING:
    from rotvq.generation.data import PriorData
    from rotvq.generation.totals import Means


class PriorProgress(RunProgress):
    """Prints the progress of a prior's run to standard output."""

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

    def details(self, means: Means) -> str:
        return f"{means.bits_per_token:.3f} bits per token"

    def epoch_lines(self, record: dict[str, Any]) -> list[str]:
        train, test, timing = record["train"], record["test"], record["timing"]
        measured = f"test {test['bits_per_token']:.3f}" if test else "not tested"
        return [
            f"epoch {record['epoch']:>3}  bits per token: train {train['bits_per_token']:.3f}  "
            f"{measured}  {timing['images_per_second']:,.0f} images/s"
        ]

    def finish(self, record: dict[str, Any], folder: Path) -> None:
        """Print the result, and the command that draws images."""
        for line in summary(record):
            self.say(line)
        name = shlex.quote(str(folder))
        model = "" if run_folder.has_tokenizer(folder) else " --model MODEL"
        self.say(f"Saved to {folder}. To draw images: rotvq sample {name}{model} -n 64 -o samples")


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
