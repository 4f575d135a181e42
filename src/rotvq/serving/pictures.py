"""Pictures that the page opens: uploads in any format that the package reads, and photographs."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.data_processing.decoding import decode
from rotvq.data_processing.image_formats import FORMATS, SUFFIXES, Unreadable, open_image
from rotvq.data_processing.resizing import MINIMUM_SIDE, Target
from rotvq.errors import UserError

Pixels = NDArray[np.uint8]

LARGEST = 50_000_000
"""Pixels of an image, at most."""

SIDE = 256
"""Pixels of the longer side of an encoded image; larger images are reduced."""

ACCEPTED = tuple(sorted(SUFFIXES))
"""File suffixes of the formats, for the dialog that opens files."""

_CROPS = {"china": (0, 0, 640, 426), "flower": (110, 0, 537, 427)}


def read(content: bytes, channels: int) -> Pixels:
    """The pixels (c, h, w) of an image file, reduced to `SIDE`.

    Raises:
        UserError: it is not an image, or it is too large.
    """
    try:
        with open_image(content) as opened:
            size = opened.size
        if size[0] * size[1] > LARGEST:
            raise UserError(f"expected at most {LARGEST:,} pixels; got {size[0]}x{size[1]}.")
        pixels = decode(content, Target(None, channels))
    except UserError:
        raise
    except Unreadable as error:
        raise UserError(
            f"expected an image; this file is not one that can be opened ({error}). Formats: "
            f"{', '.join(FORMATS)}."
        ) from None
    # Pillow's plug-ins raise almost anything, with words for programmers.
    except Exception:
        raise UserError(
            "expected an image; this file is damaged or incomplete. Save it again, or open another."
        ) from None
    image = _image(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    if min(image.size) < MINIMUM_SIDE:  # of a long, thin picture
        width, height = (max(side, MINIMUM_SIDE) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    reduced = np.array(image)
    return reduced[None] if channels == 1 else np.ascontiguousarray(reduced.transpose(2, 0, 1))


def png(pixels: Pixels) -> bytes:
    """A PNG of pixels (c, h, w)."""
    content = BytesIO()
    _image(pixels).save(content, format="PNG")
    return content.getvalue()


def photographs() -> tuple[str, ...]:
    """Names of the photographs, which come with scikit-learn; none without it."""
    return tuple(_CROPS) if find_spec("sklearn") else ()


@cache
def photograph(name: str) -> bytes:
    """A PNG of a photograph, 128 pixels high.

    Raises:
        UserError: there is none of that name.
    """
    if name not in photographs():
        raise UserError(f"expected a photograph; there is none named {name[:40]}.")
    # Found without the import of scikit-learn, which takes seconds.
    folder = Path(str(getattr(find_spec("sklearn"), "origin", ""))).parent / "datasets/images"
    with Image.open(folder / f"{name}.jpg") as opened:
        photo = opened.crop(_CROPS[name])
    width = round(128 * photo.width / photo.height)
    return png(np.asarray(photo.resize((width, 128), Image.Resampling.LANCZOS)).transpose(2, 0, 1))


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
