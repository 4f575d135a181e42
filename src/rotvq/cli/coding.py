"""Models by name and images by path, for the commands that take them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rotvq import bundled, run_folder
from rotvq.cli.options import Parser, add_batch_size, add_size
from rotvq.cli.terminal import Terminal
from rotvq.data_processing import pictures, skipped
from rotvq.data_processing.decoding import Findings, decoded
from rotvq.data_processing.reader import SPLITS
from rotvq.data_processing.resizing import Target, parse_size
from rotvq.errors import UserError
from rotvq.paths import expanded
from rotvq.tokens.collection import Picture, Tokens

if TYPE_CHECKING:
    from rotvq.model import VQVAE


MODELS = "a bundled model, a run folder, a saved model, or owner/name on the Hub"


def add_model(parser: Parser, default: str = bundled.DEFAULT) -> None:
    """Add the options for the model.

    Args:
        parser: the command's parser.
        default: the model if none is given; "" if the command finds one itself.
    """
    otherwise = default or "the bundled model that encoded the tokens"
    parser.add_argument("--model", default=default, help=f"{MODELS} (default: {otherwise})")
    add_batch_size(parser)


def add_positional_model(parser: Parser) -> None:
    """Add the model as an argument; it may be omitted."""
    parser.add_argument(
        "model", nargs="?", default=bundled.DEFAULT, help=f"{MODELS} (default: {bundled.DEFAULT})"
    )


def add_pictures(parser: Parser) -> None:
    """Add the options for the images to encode."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="image files, folders of images, or a data source as for rotvq train",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help="which images (default: the test split of a data source, or all if there is none; all "
        "images in a folder)",
    )
    add_size(parser)
    parser.add_argument(
        "--bits", type=int, help="bit depth of grayscale images stored in 16 bits, such as 12"
    )


def load_model(name: str) -> VQVAE:
    """Load a model by its name or path onto the fastest device."""
    from rotvq.model import VQVAE
    from rotvq.training.build import load_model as load_run
    from rotvq.training.environment import default_device

    folder = bundled.find(name) or expanded(name)
    saved = not run_folder.is_run(folder) or (folder / run_folder.MODEL).exists()
    model = VQVAE.from_pretrained(name) if saved else load_run(folder)
    return model.to(default_device())


def load_bundled(tokens: Tokens) -> tuple[str, VQVAE]:
    """The name of the bundled model that encoded the tokens, and the model.

    Raises:
        UserError: none of them did.
    """
    from rotvq.tokens.model_codec import fingerprint

    for name in bundled.names():
        model = load_model(name)
        if fingerprint(model) == tokens.codec.model:
            return name, model
    raise UserError(
        f"--model: expected the model that encoded the tokens, {tokens.codec.model}; got none, and "
        f"no bundled model did ({bundled.listed()}). Pass it with --model."
    )


class Source:
    """Images to encode, in order.

    Args:
        words: paths or data sources.
        split: "train", "test", "all" or None, as for `open_pictures`.
        channels: the channels of the model.
        bits: bits used by gray images stored in 16 bits.
        size: a side or HEIGHTxWIDTH to resize and crop to; None keeps the size of each image.

    Raises:
        UserError: there are no such images, or the bits or the size are out of range.
    """

    def __init__(
        self,
        words: list[str],
        split: str | None,
        channels: int,
        bits: int | None = None,
        size: str | None = None,
    ) -> None:
        if bits is not None and not 1 <= bits <= 16:
            raise UserError(f"--bits: expected 1 to 16; got {bits}.")
        self.target = Target(parse_size(size), channels, bits)
        self.reader = pictures.open_pictures(words, split, self.target)
        self.findings = Findings([*self.reader.skipped])
        self.count = self.reader.count

    def __iter__(self) -> Iterator[Picture]:
        for item, pixels in decoded(self.reader, self.target, self.findings):
            yield Picture(item.name, pixels, item.label, item.caption)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user, complete when all images were read."""
        return (*self.reader.notes, *self.findings.notes)

    @property
    def fingerprint(self) -> str:
        """Changes with the images, and with how they are read."""
        bits, sides = self.target.bits, self.target.sides
        depth = "" if bits is None else f", {bits} bits"
        size = "" if sides is None else f", {sides[0]}x{sides[1]}"
        return self.reader.fingerprint() + depth + size

    def check_any(self, coded: int) -> None:
        """Check that at least one image was encoded.

        Raises:
            UserError: none was.
        """
        if not coded:
            raise UserError(
                "IMAGES: expected readable images; found none: " + "; ".join(self.findings.notes)
            )

    def report(self, terminal: Terminal, coded: int, out: Path) -> None:
        """Report skipped images, and list them in OUT.skipped.tsv.

        Args:
            terminal: the terminal to report to.
            coded: the number of images that were encoded.
            out: the output of the command.

        Raises:
            UserError: no image was encoded.
        """
        self.check_any(coded)
        for note in self.notes:
            terminal.say(note)
        out = out if out.name else out.resolve()
        listed = out.with_name(f"{out.name}.skipped.tsv")
        if skipped.write(listed, self.findings.skipped):
            terminal.say(f"Skipped images are listed in {listed}.")
