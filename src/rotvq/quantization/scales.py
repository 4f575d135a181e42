"""Resizes maps of increasing resolution over one grid (see `rotvq.scales`).

Resizing is linear in rows and in columns, so it is written as one matrix for each, from positions
to positions: a tensor with the size of a map, which may be 1, would tie an exported graph to that
size.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from rotvq.scales import cells

_CUBIC = -0.75
"""The slope at 1 of the bicubic kernel (Keys 1981), as in `torch.nn.functional.interpolate`."""


def spread(
    small: Shaped[Tensor, "*b r c"], grid: tuple[int, int], scale: int, last: int, fill: float
) -> Shaped[Tensor, "*b h w"]:
    """The values of a map at the positions of its tokens in the grid, and `fill` elsewhere."""
    for dim, side in zip((-2, -1), grid, strict=True):
        cell, there = _cells(side, scale, last, small.device)
        # Past the last cell, there is none.
        small = small.index_select(dim, cell.clamp_max(small.shape[dim] - 1))
        small = small.where(there.view(-1, *[1] * (-1 - dim)), fill)
    return small


def gathered(values: Shaped[Tensor, "*b h w"], scale: int, last: int) -> Shaped[Tensor, "*b r c"]:
    """The values of a map, from the positions of its tokens in the grid."""
    for dim in (-2, -1):
        cell = torch.arange(cells(values.shape[dim], scale, last), device=values.device)
        values = values.index_select(dim, cell * last // scale)
    return values


def positions(like: Tensor, scale: int, last: int) -> Bool[Tensor, "h w"]:
    """Where a scale has tokens in the grid of the last two dimensions."""
    rows, columns = (_cells(side, scale, last, like.device)[1] for side in like.shape[-2:])
    return rows.unsqueeze(1) & columns


def blocks(
    z: Float[Tensor, "b d h w"], scale: int, finer: int, last: int
) -> Float[Tensor, "b d*g*g h w"]:
    """The map of a scale whose cells are blocks of g×g cells of a finer scale.

    It is 0 at positions where no block begins. A cell of the finer scale holds the mean over its
    area, as `torch.nn.functional.adaptive_avg_pool2d` computes it. Past the edge of the grid, the
    outermost cell is repeated.

    Args:
        z: a map over the grid.
        scale: of the blocks.
        finer: a multiple of it, g times as large.
        last: the scale of the grid.
    """
    rows, columns = (_block_means(side, scale, finer, last, z) for side in z.shape[2:])
    return torch.cat([r @ z @ c.T for r in rows for c in columns], 1)


def unfolded(
    codes: Float[Tensor, "b d*g*g h w"], scale: int, finer: int, last: int
) -> Float[Tensor, "b d h w"]:
    """A map over the grid, by bicubic interpolation between the cells of all blocks."""
    rows, columns = (_block_bicubic(side, scale, finer, last, codes) for side in codes.shape[2:])
    parts = iter(codes.chunk(len(rows) * len(columns), 1))
    return torch.stack([r @ next(parts) @ c.T for r in rows for c in columns]).sum(0)


def _cells(
    side: int, scale: int, last: int, device: torch.device
) -> tuple[Int64[Tensor, " s"], Bool[Tensor, " s"]]:
    """For each position, the first cell that begins there or later, and whether it begins there."""
    position = torch.arange(side, device=device)
    cell = (position * scale + last - 1) // last
    return cell, cell * last // scale == position


def _block_means(side: int, scale: int, finer: int, last: int, like: Tensor) -> list[Tensor]:
    """For each of the g cells of a block, a matrix from positions to the positions of blocks."""
    means = _means(side, finer, last, like)
    _, there = _cells(side, scale, last, like.device)
    return [
        means.index_select(0, position) * there.unsqueeze(1)
        for position, _ in _in_blocks(side, scale, finer, last, like.device)
    ]


def _block_bicubic(side: int, scale: int, finer: int, last: int, like: Tensor) -> list[Tensor]:
    """For each of the g cells of a block, a matrix from positions of blocks to positions."""
    weights = _bicubic(side, finer, last, like)
    return [
        weights.index_select(1, position) * inside
        for position, inside in _in_blocks(side, scale, finer, last, like.device)
    ]


def _in_blocks(
    side: int, scale: int, finer: int, last: int, device: torch.device
) -> list[tuple[Int64[Tensor, " s"], Bool[Tensor, " s"]]]:
    """Where the g cells of each block stand, and which of them are in the grid.

    Cells past its edge are replaced by the outermost; positions without a block have no cells.
    """
    cell, there = _cells(side, scale, last, device)
    g, number = finer // scale, cells(side, finer, last)
    wanted = [g * cell + i for i in range(g)]
    return [(n.clamp_max(number - 1) * last // finer, there & (n < number)) for n in wanted]


def _means(side: int, scale: int, last: int, like: Tensor) -> Float[Tensor, "s s"]:
    number = cells(side, scale, last)
    cell, there = (each.unsqueeze(1) for each in _cells(side, scale, last, like.device))
    position = torch.arange(side, device=like.device)
    first, end = cell * side // number, ((cell + 1) * side + number - 1) // number
    weights = ((position >= first) & (position < end) & there).to(like.dtype)
    return weights / weights.sum(1, keepdim=True).clamp_min(1)


def _bicubic(side: int, scale: int, last: int, like: Tensor) -> Float[Tensor, "s s"]:
    number = cells(side, scale, last)
    place = (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) * (number / side)
    place = (place - 0.5).view(-1, 1, 1)
    taps = place.floor() + torch.arange(-1, 3, device=like.device).view(-1, 1)
    t = (place - taps).abs()
    near = ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t * _CUBIC - 4 * _CUBIC
    cell, there = _cells(side, scale, last, like.device)
    # Beyond the edge, the outermost cell is repeated.
    own = (taps.clamp(0, number - 1) == cell) & there
    return (torch.where(t <= 1, near, far) * own).sum(1)
