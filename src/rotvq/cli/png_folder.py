"""Writes PNGs to a folder; names depend only on those of the sources."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.data_processing.image_formats import SUFFIXES
from rotvq.data_processing.skipped import Skipped
from rotvq.errors import UserError
from rotvq.files import write_atomically
from rotvq.guarded import check_not_file
from rotvq.paths import LONGEST, shortened
from rotvq.text import encodable

# Control characters, and what Windows reserves.
_RESERVED = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\]')


def check_folder(folder: Path, overwrite: bool) -> None:
    """Check that images can be written to a folder.

    Raises:
        UserError: it is not empty, is a file, or has the name of an image file.
    """
    check_not_file(folder)
    if not folder.exists() and folder.suffix.lower() in SUFFIXES:
        raise UserError(
            f"--out: expected a folder for the PNGs; got the image file name {folder}. Pass "
            f"{folder.with_suffix('')}, for example."
        )
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(
            f"--out: expected a new or empty folder; {folder} is not empty. Choose another folder, "
            "or replace files of the same names with --overwrite."
        )


def default_png(source: Path) -> Path:
    """The PNG for one image where no name is given: `cat.rotvq.png` for any `cat.jpg`."""
    # With room for the suffix of the list of skipped images.
    return Path(shortened(_portable(encodable(f"{source.stem}.rotvq.png")), LONGEST - 16))


def check_png(path: Path, overwrite: bool) -> None:
    """Check that an image can be written to a file.

    Raises:
        UserError: it exists.
    """
    if path.exists() and not overwrite:
        raise UserError(
            f"--out: expected a new file; {path} exists. Choose another name with -o, or replace "
            "it with --overwrite."
        )


def save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an image (c, h, w) atomically."""
    # Pillow expects gray images without a channel dimension.
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    # Not durable: there may be thousands, and they can be decoded again.
    write_atomically(path, partial(image.save, format="PNG"), durable=False)


class PngFile:
    """Writes one image to a file, with the interface of `PngFolder`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: list[Skipped] = []

    def save(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Write the image (c, h, w)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_png(self.path, pixels)


class PngFolder:
    """Writes images to a folder, which is created if needed.

    Attributes:
        path: the folder.
        skipped: images that would have replaced another one written before, for example on a
            case-insensitive file system.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.skipped: list[Skipped] = []
        self._written: set[tuple[int, int]] = set()
        self._unnamed = 0

    def save(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Write an image.

        Args:
            name: the name of its source; if empty, the image is numbered.
            pixels: (c, h, w), uint8.

        Raises:
            UserError: the name points outside the folder.
        """
        self._unnamed += not name
        path = self.path / png_name(name or f"{self._unnamed:06d}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            taken = path.is_dir() or (path.exists() and _identity(path) in self._written)
        except (FileExistsError, NotADirectoryError):  # an image has the name of a folder
            taken = True
        if taken:
            self.skipped.append(Skipped(name, "another image was written under its name"))
            return
        save_png(path, pixels)
        self._written.add(_identity(path))


def png_name(source: str) -> Path:
    """The PNG name for a source, with / between folders.

    It depends only on the source's name, and is unique: `a.png` keeps its name, others get a
    suffix, as in `a.jpg.png`. So does `a.jpg.png` itself, to differ from that of `a.jpg`.
    Characters that are not portable are written as %XX.

    Raises:
        UserError: the path is absolute or points outside the folder.
    """
    path = PurePosixPath(source)
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"tokens: expected names inside the folder; got {source!r}. Do not trust this file."
        )
    is_png = path.suffix == ".png" and PurePosixPath(path.stem).suffix.lower() not in SUFFIXES
    *folders, name = map(_portable, path.parts)
    return Path(*map(shortened, folders), shortened(name if is_png else f"{name}.png"))


def _portable(part: str) -> str:
    return _RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", part)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
