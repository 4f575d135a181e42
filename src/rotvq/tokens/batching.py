"""Images in batches, as they are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rotvq.tokens.collection import Picture

Named = tuple[str, NDArray[np.uint8]]
"""Name of an image, "" if it has none, and its pixels (c, h, w)."""
N = TypeVar("N", bound=Named | Picture)


def within(images: Iterator[N], most: int, pixels: int) -> list[N]:
    """The next images: at most `most`, and no more once they have `pixels` pixels in total."""
    some: list[N] = []
    for named in islice(images, most):
        some.append(named)
        pixels -= named[1][0].size
        if pixels <= 0:
            break
    return some


def batches(
    images: Iterable[Named | Picture], batch_size: int, pixels: int
) -> Iterator[list[Picture]]:
    """Consecutive images of one size, in batches that `within` limits."""
    pictures = (Picture(*named) for named in images)
    for _, same in groupby(pictures, lambda picture: picture.pixels.shape):
        while some := within(same, batch_size, pixels):
            yield some
