"""Resizes maps of rising resolution over one grid (see `rotvq.scales`).

Resizing is linear in rows and in columns, so it is written as one matrix for each, from positions
to positions: a tensor with the size of a map, which may be 1, would tie an exported graph to that
size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from rotvq.scales import cells

RATIO = 0.5
"""Share of the convolution in φ, as in VAR."""

_CUBIC = -0.75
"""The slope at 1 of the bicubic kernel (Keys 1981), as in `torch.nn.functional.interpolate`."""


class Phi(nn.Module):
    """φ(x) = ½x + ½conv(x), which corrects a map after its enlargement; starts as the identity.

    Without a bias, so that a map of zeros adds nothing.

    Args:
        dim: channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim, 3, 3))
        nn.init.dirac_(self.weight)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        return (1 - RATIO) * x + RATIO * F.conv2d(x, self.weight.to(x.dtype), padding=1)


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


def gathered(spread: Shaped[Tensor, "*b h w"], scale: int, last: int) -> Shaped[Tensor, "*b r c"]:
    """The values of a map, from the positions of its tokens in the grid."""
    for dim in (-2, -1):
        cell = torch.arange(cells(spread.shape[dim], scale, last), device=spread.device)
        spread = spread.index_select(dim, cell * last // scale)
    return spread


def positions(like: Tensor, scale: int, last: int) -> Bool[Tensor, "h w"]:
    """Where a scale has tokens in the grid of the last two dimensions."""
    rows, columns = (_cells(side, scale, last, like.device)[1] for side in like.shape[-2:])
    return rows.unsqueeze(1) & columns


def reduced(z: Float[Tensor, "b d h w"], scale: int, last: int) -> Float[Tensor, "b d h w"]:
    """The map of a scale, spread over the grid, and 0 elsewhere.

    It holds means over areas, as `torch.nn.functional.adaptive_avg_pool2d` computes them.
    """
    rows, columns = (_means(side, scale, last, z) for side in z.shape[2:])
    return rows @ z @ columns.T


def enlarged(codes: Float[Tensor, "b d h w"], scale: int, last: int) -> Float[Tensor, "b d h w"]:
    """A map, spread over the grid, as bicubic interpolation enlarges it."""
    rows, columns = (_bicubic(side, scale, last, codes) for side in codes.shape[2:])
    return rows @ codes @ columns.T


def _cells(
    side: int, scale: int, last: int, device: torch.device
) -> tuple[Int64[Tensor, " s"], Bool[Tensor, " s"]]:
    """For each position, the first cell that begins there or later, and whether it begins there."""
    position = torch.arange(side, device=device)
    cell = (position * scale + last - 1) // last
    return cell, cell * last // scale == position


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
