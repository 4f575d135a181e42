"""Resizes and crops images to one shape, uint8 (c, h, w)."""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.data_processing.crops import whole
from rotvq.data_processing.image_formats import Unreadable
from rotvq.errors import UserError

MINIMUM_SIDE = 4

Pixels = NDArray[np.uint8]


class Target(NamedTuple):
    """What images are converted to.

    Args:
        size: a side or (height, width); None keeps the size of each image.
        channels: 1 or 3.
        bits: bits used by gray images stored in 16 bits; None means all 16.
        keep: larger images are kept uncropped at up to this many times the size, to take crops
            from; 1 crops them to the size.
    """

    size: int | tuple[int, int] | None = None
    channels: int = 3
    bits: int | None = None
    keep: int = 1

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width; None if every image keeps its own."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def needed(self) -> tuple[int, int] | None:
        """Minimum height and width to decode; None for full resolution."""
        return self.sides and (self.keep * self.sides[0], self.keep * self.sides[1])


def parse_size(size: int | str | None) -> tuple[int, int] | None:
    """Parse "48x64", 64 or "64" as height and width.

    Raises:
        UserError: it is anything else, or a side is below MINIMUM_SIDE.
    """
    if size is None:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", str(size))
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(sides) < MINIMUM_SIDE:
        raise UserError(
            f"data.size: expected a side in pixels or HEIGHTxWIDTH, {MINIMUM_SIDE} or more; got "
            f"{size}."
        )
    return sides


def conform(image: Image.Image, target: Target) -> Pixels:
    """Resize until one side fits (Lanczos), crop the center, and return (c, h, w)."""
    if min(image.size) < MINIMUM_SIDE:
        raise Unreadable(f"below {MINIMUM_SIDE} pixels a side", f"{image.height}x{image.width}")
    if target.sides is not None:
        reduce = _cropped if target.keep == 1 else partial(whole, keep=target.keep)
        image = reduce(image, *target.sides)
    mode = "L" if target.channels == 1 else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def conform_pixels(pixels: Pixels, target: Target) -> Pixels:
    """The same for pixels (c, h, w); those that already fit are returned unchanged."""
    if pixels.shape[0] == target.channels and target.sides in (None, pixels.shape[1:]):
        return pixels
    gray = len(pixels) == 1
    return conform(Image.fromarray(pixels[0] if gray else pixels.transpose(1, 2, 0)), target)


def _cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    # In one step, so that a long thin image is never enlarged. The offset is in whole output
    # pixels, so that an image with one fitting side is cropped without resampling.
    wanted = (width, height)
    scale = min(side / new for side, new in zip(image.size, wanted, strict=True))
    pairs = [*zip(image.size, wanted, strict=True)]
    left, above = (int((side / scale - new) / 2) * scale for side, new in pairs)
    right, below = min(left + width * scale, image.width), min(above + height * scale, image.height)
    return image.resize(wanted, Image.Resampling.LANCZOS, (left, above, right, below))
