"""What encode, decode and reconstruct share: a model by name, pictures by path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.data_processing import load, pictures
from rotvq.data_processing.decoding import Findings, Target
from rotvq.errors import UserError
from rotvq.training import run_folder

if TYPE_CHECKING:
    from rotvq.model import VQVAE

Named = tuple[str, NDArray[np.uint8]]


def add_model(parser: Parser) -> None:
    """The options on the model."""
    parser.add_argument(
        "--model", required=True, help="folder of a run or a saved model, or owner/name on the hub"
    )
    parser.add_argument("--batch-size", type=int, default=128, help="pictures at a time")


def add_pictures(parser: Parser) -> None:
    """The options on what is coded."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="pictures, folders of pictures, or a data source as rotvq train takes it",
    )
    parser.add_argument(
        "--split", choices=["test", "train"], default="test", help="of a data source"
    )
    parser.add_argument(
        "--bits", type=int, help="of grey images that are stored in 16 bits, such as 12"
    )


def check_batch_size(size: int) -> None:
    """See that it is a number of pictures.

    Raises:
        UserError: it is none.
    """
    if size < 1:
        raise UserError(f"--batch-size: expected 1 or more; got {size}.")


def load_model(name: str) -> VQVAE:
    """The model of a run's folder, a saved one or one of the hub, where it computes fastest."""
    from rotvq.model import VQVAE
    from rotvq.training.build import load_model as load_run
    from rotvq.training.environment import accelerator

    folder = Path(name).expanduser()
    saved = not run_folder.is_run(folder) or (folder / run_folder.MODEL).exists()
    model = VQVAE.from_pretrained(name) if saved else load_run(folder)
    return model.to(accelerator())


class Source:
    """Pictures to code, one after the other.

    Args:
        words: paths, or one data source.
        split: of a data source.
        channels: of the model.
        bits: of grey images that are stored in 16 bits.

    Raises:
        UserError: there are no such pictures.
    """

    def __init__(
        self, words: list[str], split: str, channels: int, bits: int | None = None
    ) -> None:
        self.target = Target(None, channels, bits)
        self.findings = Findings()
        self._files = pictures.find(words, self.findings.skipped)
        if self._files is None:
            data = load(words[0], channels=channels, bits=bits)
            self._pixels = (data.test if split == "test" else data.train).images
        self.count = len(self._pixels if self._files is None else self._files)

    def __iter__(self) -> Iterator[Named]:
        if self._files is None:
            return (("", pixels) for pixels in self._pixels)
        return pictures.read(self._files, self.target, self.findings)

    def report(self, terminal: Terminal, coded: int) -> None:
        """Say what was passed over.

        Raises:
            UserError: nothing was left.
        """
        if not coded:
            raise UserError(
                "expected readable pictures; there are none: " + "; ".join(self.findings.notes)
            )
        for note in self.findings.notes:
            terminal.say(note)
