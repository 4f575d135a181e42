"""Maps of rising resolution over one grid: where their tokens lie, and how to resize them.

Scale s of S, the last one, divides a grid of h rows into ⌈h·s/S⌉, and its columns likewise. A token
stands at the position of the grid where the area that it covers begins. Resizing is linear in rows
and in columns, so it is written as one matrix for each.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

_CUBIC = -0.75
"""The slope at 1 of the bicubic kernel (Keys 1981), as in `torch.nn.functional.interpolate`."""


def cells(side: int, scale: int, last: int) -> int:
    """Rows of a scale's map, for a grid of `side` rows; columns likewise."""
    return -(-side * scale // last)


def number_of_tokens(scales: tuple[int, ...], levels: int, grid: tuple[int, int]) -> int:
    """Tokens of the maps of the first levels."""
    rows, columns = grid
    last = scales[-1]
    return sum(cells(rows, s, last) * cells(columns, s, last) for s in scales[:levels])


@cache
def raster(scales: tuple[int, ...], levels: int, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Where the tokens of the first levels are in a flattened (rows, columns, levels).

    In the order of a prior (VAR, arXiv 2404.02905): one map after the other, each row by row.
    """
    columns, parts = grid[1], []
    for level, scale in enumerate(scales[:levels]):
        down, right = (
            np.arange(cells(side, scale, scales[-1])) * scales[-1] // scale for side in grid
        )
        parts.append(((down[:, None] * columns + right) * levels + level).ravel())
    return np.concatenate(parts)


def spread(
    tokens: Int64[Tensor, "b r c"], grid: tuple[int, int], scale: int, last: int
) -> Int64[Tensor, "b h w"]:
    """The tokens of a map at their positions of the grid; −1 elsewhere."""
    for dim, side in zip((1, 2), grid, strict=True):
        positions = torch.arange(side, device=tokens.device)
        cell = -(-positions * scale // last)
        there = cell * last // scale == positions
        # Past the last cell, there is none: its first position would lie beyond the grid.
        cell = cell.clamp_max(tokens.shape[dim] - 1)
        shape = (-1, 1) if dim == 1 else (1, -1)
        tokens = tokens.index_select(dim, cell).where(there.view(shape), -1)
    return tokens


def gathered(
    spread: Int64[Tensor, "b h w"] | Bool[Tensor, "b h w"], scale: int, last: int
) -> Tensor:
    """The tokens of a map (b, r, c), from their positions of the grid."""
    for dim in (1, 2):
        number = cells(spread.shape[dim], scale, last)
        spread = spread.index_select(dim, torch.arange(number, device=spread.device) * last // scale)
    return spread


def area(z: Float[Tensor, "b d h w"], size: tuple[int, int]) -> Float[Tensor, "b d r c"]:
    """Means over the areas of a smaller map."""
    rows, columns = (_area(n, side, z) for n, side in zip(size, z.shape[2:], strict=True))
    return rows @ z @ columns.T


def bicubic(codes: Float[Tensor, "b d r c"], size: tuple[int, int]) -> Float[Tensor, "b d h w"]:
    """A map enlarged by bicubic interpolation."""
    rows, columns = (_bicubic(n, side, codes) for n, side in zip(size, codes.shape[2:], strict=True))
    return rows @ codes @ columns.T


def _area(number: int, side: int, like: Tensor) -> Float[Tensor, "n s"]:
    cell = torch.arange(number, device=like.device).unsqueeze(1)
    position = torch.arange(side, device=like.device)
    inside = (position >= cell * side // number) & (position < -(-(cell + 1) * side // number))
    weights = inside.to(like.dtype)
    return weights / weights.sum(1, keepdim=True)


def _bicubic(number: int, side: int, like: Tensor) -> Float[Tensor, "n s"]:
    place = (torch.arange(number, device=like.device, dtype=like.dtype) + 0.5) * (side / number)
    place = (place - 0.5).view(-1, 1, 1)
    taps = place.floor() + torch.arange(-1, 3, device=like.device).view(-1, 1)
    t = (place - taps).abs()
    near = ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t * _CUBIC - 4 * _CUBIC
    weights = torch.where(t <= 1, near, far)
    # Beyond the edge, the outermost row is repeated.
    of = taps.clamp(0, side - 1) == torch.arange(side, device=like.device)
    return (weights * of).sum(1)
