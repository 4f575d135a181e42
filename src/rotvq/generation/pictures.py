"""Images side by side in one PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.files import write_atomically

GAP = 2
"""White pixels between images."""


def save_grid(path: Path, images: Sequence[NDArray[np.uint8]], columns: int | None = None) -> None:
    """Write images of one size as a PNG, row by row.

    Args:
        path: of the PNG.
        images: one or more, (c, h, w), uint8.
        columns: images in a row; None for as many as there are rows, about.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    channels, height, width = images[0].shape
    rows = -(-len(images) // columns)
    pixels = np.full(
        (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 255, np.uint8
    )
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        pixels[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    # Pillow expects gray images without a channel dimension.
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    write_atomically(path, lambda target: picture.save(target, format="PNG"))
