"""Random crops, new in every epoch, from pictures larger than the training size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.data_processing.room import room

KEEP = 4
"""Pictures are stored at up to this many times the height and width of a crop."""

EPOCH = 50_000
"""Maximum number of crops in an epoch; every picture gives at least one."""

BLOCK = 2**26
"""Bytes allocated at a time for pictures."""

Pixels = NDArray[np.uint8]


class Store:
    """Pictures of different sizes in a few blocks of memory, or on disk if memory is full."""

    def __init__(self) -> None:
        self.pictures: list[Pixels] = []
        self._block, self._used = np.empty(0, np.uint8), 0

    def add(self, pixels: Pixels) -> None:
        """Store a copy of a picture (c, h, w) as (h, w, c)."""
        if self._used + pixels.size > len(self._block):
            self._block, self._used = room((max(BLOCK, pixels.size),)), 0
        c, h, w = pixels.shape
        kept = self._block[self._used : self._used + pixels.size].reshape(h, w, c)
        kept[:] = pixels.transpose(1, 2, 0)
        self.pictures.append(kept)
        self._used += pixels.size


def whole(image: Image.Image, height: int, width: int, keep: int) -> Image.Image:
    """The image, reduced to at most `keep` times a size or enlarged to cover it."""
    fit = min(image.height / height, image.width / width)
    if fit < 1:  # a long thin image is not enlarged as a whole
        image = _center(image, math.ceil(keep * height * fit), math.ceil(keep * width * fit))
    scale = min(max(fit, 1), keep) / fit
    if scale == 1:
        return image
    sides = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    return image.resize(sides, Image.Resampling.LANCZOS)


def _center(image: Image.Image, height: int, width: int) -> Image.Image:
    """The central part of an image, of at most a size."""
    h, w = min(image.height, height), min(image.width, width)
    left, top = (image.width - w) // 2, (image.height - h) // 2
    return image.crop((left, top, left + w, top + h))


def crops_each(pictures: Sequence[Pixels], sides: tuple[int, int]) -> int:
    """Number of crops per picture (h, w, c) in an epoch.

    As many as fit side by side in an average picture, but at most EPOCH in total.
    """
    fitting = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    fitting //= len(pictures) * sides[0] * sides[1]
    return max(1, min(fitting, EPOCH // len(pictures)))


def crop(picture: Pixels, sides: tuple[int, int], key: Sequence[int]) -> Pixels:
    """A random part of a picture at a random scale; a pure function of its arguments.

    The logarithm of the scale is uniform between full resolution and the scale at which the whole
    picture just covers the crop.

    Args:
        picture: (h, w, c), at least as large as the crop.
        sides: height and width of the crop.
        key: the random seed.

    Returns:
        (c, height, width), uint8.
    """
    random = np.random.default_rng(key)
    covering = min(have / want for have, want in zip(picture.shape, sides, strict=False))
    scale = covering ** random.random()
    height, width = (round(scale * side) for side in sides)
    top = random.integers(picture.shape[0] - height + 1)
    left = random.integers(picture.shape[1] - width + 1)
    part = picture[top : top + height, left : left + width]
    if (height, width) != sides:
        gray = part.shape[2] == 1
        image = Image.fromarray(part[..., 0] if gray else part)
        image = image.resize(sides[::-1], Image.Resampling.LANCZOS, reducing_gap=2.0)
        part = np.asarray(image).reshape(*sides, -1)
    return part.transpose(2, 0, 1)
