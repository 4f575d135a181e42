"""A picture of codebooks: every code as a tile, similar tiles side by side."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rotvq.arrangement import arrange

Tiles = NDArray[np.uint8]  # (k, side, side, 3), 0..255


class Looks(NamedTuple):
    """What only the model of a run can draw.

    Args:
        tokens: for each row of originals, each image with its tokens drawn as their codes look.
        codes: for each codebook, its title and a tile of every code.
    """

    tokens: Sequence[Tiles]
    codes: Sequence[tuple[str, Tiles]]


WIDTH = 1600
"""Pixels of the picture that tiles are enlarged towards."""
LABELED = 1024
"""Codes of a codebook whose tiles are numbered, at most."""
_FONT, _TITLE, _MARGIN, _GAP = 10, 18, 16, 2
_FEATURES = 16
"""Principal components that tiles are compared by."""
_COMPARED = 8
"""Pixels of a side of the tiles that are compared; larger tiles are reduced."""


def sheet(codebooks: Sequence[tuple[str, Tiles]]) -> Image.Image:
    """One section for each codebook: its title, and its tiles with their numbers if they fit."""
    return _stacked([_section(*each) for each in codebooks])


def arranged(tiles: Tiles) -> NDArray[np.int64]:
    """Tiles in a grid of about equal sides, similar ones close together.

    Returns:
        The number of the tile in each cell (rows, columns); −1 in empty cells at the end.
    """
    k = len(tiles)
    columns = math.ceil(math.sqrt(k))
    rows = math.ceil(k / columns)
    features = _principal(_reduced(tiles, _COMPARED).reshape(k, -1).astype(np.float32))
    brightness = np.argsort(tiles.reshape(k, -1).mean(1), kind="stable")
    cells = np.full(rows * columns, -1)
    cells[:k] = arrange(features, brightness, columns)
    return cells.reshape(rows, columns)


def _reduced(tiles: Tiles, side: int) -> Tiles:
    """Tiles of at most `side` pixels a side, by averaging; what is left over is cut off."""
    factor = math.ceil(tiles.shape[1] / side)
    n = tiles.shape[1] // factor
    blocks = tiles[:, : n * factor, : n * factor].reshape(-1, n, factor, n, factor, 3)
    return blocks.mean((2, 4)).round().astype(np.uint8)


def _principal(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first principal components of the rows."""
    x = x - x.mean(0)
    _, vectors = np.linalg.eigh(x.T @ x)
    found: NDArray[np.float32] = x @ vectors[:, -_FEATURES:]
    return found


def _section(title: str, tiles: Tiles) -> Image.Image:
    cells = arranged(tiles)
    rows, columns = cells.shape
    labeled = len(tiles) <= LABELED
    fitting = max(_COMPARED, WIDTH // columns - _GAP)
    tiles = _reduced(tiles, fitting)
    side = tiles.shape[1]
    scale = min(12, fitting // side)
    font = ImageFont.load_default(_FONT)
    width = height = side * scale + _GAP
    if labeled:
        width = max(width, int(font.getlength(str(len(tiles)))) + 4)
        height += _FONT + 2
    head = ImageFont.load_default(_TITLE)
    canvas = Image.new(
        "RGB",
        (
            max(columns * width, math.ceil(head.getlength(title))) + 2 * _MARGIN,
            rows * height + 2 * _MARGIN + 2 * _TITLE,
        ),
        "white",
    )
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, _MARGIN), title, "black", head)
    for (row, column), code in np.ndenumerate(cells):
        if code < 0:
            continue
        x, y = _MARGIN + column * width, _MARGIN + 2 * _TITLE + row * height
        tile = tiles[code].repeat(scale, 0).repeat(scale, 1)
        canvas.paste(Image.fromarray(tile), (x, y))
        if labeled:
            pen.text((x, y + side * scale), str(code), "#555555", font)
    return canvas


def _stacked(parts: Iterable[Image.Image]) -> Image.Image:
    parts = list(parts)
    size = max(part.width for part in parts), sum(part.height for part in parts)
    canvas = Image.new("RGB", size, "white")
    top = 0
    for part in parts:
        canvas.paste(part, (0, top))
        top += part.height
    return canvas
