"""What encode, decode and reconstruct share: a model by name, pictures by path, PNGs by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.data_processing import load, pictures
from rotvq.errors import UserError
from rotvq.files import write_atomically
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

    Raises:
        UserError: there are no such pictures.
    """

    def __init__(self, words: list[str], split: str, channels: int) -> None:
        self.channels = channels
        self.skipped: list[str] = []
        self._files = pictures.find(words)
        if self._files is None:
            data = load(words[0], channels=channels)
            self._pixels = (data.test if split == "test" else data.train).images
        self.count = len(self._pixels if self._files is None else self._files)

    def __iter__(self) -> Iterator[Named]:
        if self._files is None:
            return (("", pixels) for pixels in self._pixels)
        return pictures.read(self._files, self.channels, self.skipped.append)

    def report(self, terminal: Terminal, coded: int) -> None:
        """Say what was passed over.

        Raises:
            UserError: nothing was left.
        """
        if self.skipped and not coded:
            raise UserError(
                f"expected readable pictures; all {len(self.skipped):,} are damaged, the first: "
                f"{self.skipped[0]}."
            )
        if self.skipped:
            terminal.say(f"{len(self.skipped):,} damaged skipped, the first: {self.skipped[0]}.")


def check_folder(folder: Path, overwrite: bool) -> None:
    """See that pictures may be written there.

    Raises:
        UserError: it holds files, or is one.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: expected a folder; {folder} is a file. Choose another name.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(
            f"--out: expected a new or empty folder; {folder} holds files. Choose another, or "
            "replace those of the same names with --overwrite."
        )


def save_pictures(
    folder: Path, images: Iterable[Named], taken: set[Path] | None = None
) -> Iterator[int]:
    """Write each as a PNG below the folder; yields 1 for each.

    Args:
        folder: is made.
        images: an unnamed one gets its number as name. One whose name is taken keeps its ending,
            or gets a number.
        taken: what was written there before by the same command; grows.

    Raises:
        UserError: a name that leads out of the folder.
    """
    taken = set() if taken is None else taken
    for name, pixels in images:
        path = folder / _png(name or f"{len(taken) + 1:06d}")
        if path in taken:
            path = path.with_name(f"{PurePosixPath(name).name}.png")
        stem, numbers = path.stem, count(2)
        while path in taken:
            path = path.with_name(f"{stem}_{next(numbers)}.png")
        taken.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # PIL wants grey images without a channel dimension.
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        # Thousands of them, which can be decoded again.
        write_atomically(path, partial(image.save, format="PNG"), durable=False)
        yield 1


def _png(name: str) -> Path:
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or ".." in path.parts
    if not path.name or leads_out or set("\\\0:") & set(name):
        raise UserError(
            f"tokens: expected names inside the folder; got {name!r}. Do not trust this file."
        )
    return Path(path.with_suffix(".png"))
