"""PNGs in a folder, each under a name that depends on its source alone."""

from __future__ import annotations

import hashlib
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

_LONGEST = 255
"""Bytes of a file's name."""
# Control characters, and what Windows keeps for itself.
_RESERVED = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\]')


def check_folder(folder: Path, overwrite: bool) -> None:
    """See that pictures may be written there.

    Raises:
        UserError: it holds files, is one, or has the name of one.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: expected a folder; {folder} is a file. Choose another name.")
    if not folder.exists() and folder.suffix.lower() in SUFFIXES:
        raise UserError(
            f"--out: expected a folder, which the PNGs are written to; got {folder}, the name of a "
            f"picture. Pass {folder.with_suffix('')}, say."
        )
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(
            f"--out: expected a new or empty folder; {folder} holds files. Choose another, or "
            "replace those of the same names with --overwrite."
        )


class PngFolder:
    """Writes pictures below a folder, which is made.

    Attributes:
        skipped: pictures that would have replaced another, as in a file system that does not
            tell upper from lower case.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped: list[Skipped] = []
        self._written: set[tuple[int, int]] = set()
        self._unnamed = 0

    def save(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Write one picture.

        Args:
            name: of its source; an unnamed one gets its number.
            pixels: (c, h, w).

        Raises:
            UserError: a name that leads out of the folder.
        """
        self._unnamed += not name
        path = self.folder / png_name(name or f"{self._unnamed:06d}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            taken = path.is_dir() or (path.exists() and _identity(path) in self._written)
        except (FileExistsError, NotADirectoryError):  # a picture of this name lies there
            taken = True
        if taken:
            self.skipped.append(Skipped(name, "another picture was written under its name"))
            return
        # PIL wants grey images without a channel dimension.
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        # Thousands of them, which can be decoded again.
        write_atomically(path, partial(image.save, format="PNG"), durable=False)
        self._written.add(_identity(path))


def png_name(source: str) -> Path:
    """The name of the PNG of a source, a path with / between folders.

    It depends on the source's name alone, and two pictures never share one: `a.png` keeps its
    name, and every other one gains the ending, as `a.jpg.png`. So does `a.jpg.png`, which would
    be that of `a.jpg`. Characters that not every system takes are written as %XX.

    Raises:
        UserError: an absolute path, or one that leads out of the folder.
    """
    path = PurePosixPath(source)
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"tokens: expected names inside the folder; got {source!r}. Do not trust this file."
        )
    is_png = path.suffix == ".png" and PurePosixPath(path.stem).suffix.lower() not in SUFFIXES
    *folders, name = map(_portable, path.parts)
    return Path(*map(_short, folders), _short(name if is_png else f"{name}.png"))


def _portable(part: str) -> str:
    return _RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", part)


def _short(part: str) -> str:
    """A name that is too long is cut, and a hash of all of it added."""
    encoded = part.encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST:
        return part
    ending = f"-{hashlib.sha256(encoded).hexdigest()[:16]}{PurePosixPath(part).suffix[-16:]}"
    return encoded[: _LONGEST - len(ending.encode())].decode("utf-8", "ignore") + ending


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
