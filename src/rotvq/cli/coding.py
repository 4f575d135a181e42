"""What encode, decode and reconstruct share: a model by name, pictures by path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rotvq import run_folder
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.data_processing import pictures, skipped
from rotvq.data_processing.decoding import Findings, decoded
from rotvq.data_processing.reader import SPLITS
from rotvq.data_processing.resizing import Target
from rotvq.errors import UserError
from rotvq.tokens.collection import Picture

if TYPE_CHECKING:
    from rotvq.model import VQVAE


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
        "--split",
        choices=SPLITS,
        help="of a data source; by default test, or all where the source has no test split",
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
        words: paths, or data sources.
        split: of a data source; None for its test split, or for all where it has none.
        channels: of the model.
        bits: of grey images that are stored in 16 bits.

    Raises:
        UserError: there are no such pictures.
    """

    def __init__(
        self, words: list[str], split: str | None, channels: int, bits: int | None = None
    ) -> None:
        if bits is not None and not 1 <= bits <= 16:
            raise UserError(f"--bits: expected 1 to 16; got {bits}.")
        self.target = Target(None, channels, bits)
        self._reader = pictures.open_pictures(words, split, self.target)
        self.findings = Findings([*self._reader.skipped])
        self.count = self._reader.count

    def __iter__(self) -> Iterator[Picture]:
        for item, pixels in decoded(self._reader, self.target, self.findings):
            yield Picture(item.name, pixels, item.label, item.caption)

    def report(self, terminal: Terminal, coded: int, out: Path) -> None:
        """Say what was passed over, and list it in OUT.skipped.tsv.

        Args:
            terminal: to say it.
            coded: how many images were left.
            out: what they are written to.

        Raises:
            UserError: nothing was left.
        """
        if not coded:
            raise UserError(
                "expected readable pictures; there are none: " + "; ".join(self.findings.notes)
            )
        for note in (*self._reader.notes, *self.findings.notes):
            terminal.say(note)
        out = out if out.name else out.resolve()
        listed = out.with_name(f"{out.name}.skipped.tsv")
        if skipped.write(listed, self.findings.skipped):
            terminal.say(f"What was skipped is listed in {listed}.")
