"""Statistics of a step, in a fixed order and without atomics: reproducible bit for bit."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rotvq.quantization.kernels.tile import tile


@torch.library.custom_op("rotvq::usable", mutates_args=())
def usable(z: Tensor, valid: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """z in float32 with zeros for the vectors to leave out, and which ones are left.

    Args:
        z: (n, d), any floating dtype except float64.
        valid: (n,) bool.
        largest: a vector with an element that is not within ±largest is left out.

    Returns:
        (n, d) float32 and (n,) bool.
    """
    (n, d), z, valid = z.shape, z.contiguous(), valid.contiguous()
    out, kept = torch.empty_like(z, dtype=torch.float32), torch.empty_like(valid)
    if n:
        rows, width = tile(d)
        _usable[(triton.cdiv(n, rows),)](z, valid, out, kept, n, d, largest, rows, width)
    return out, kept


@usable.register_fake
def _(z: Tensor, valid: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape, dtype=torch.float32), valid.new_empty(valid.shape)


@triton.jit
def _usable(z, valid, out, kept, n, d, largest, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    place = tl.arange(0, WIDTH)[None, :]
    inside = (row < n) & (place < d)
    x = tl.load(z + row * d + place, mask=inside, other=0.0).to(tl.float32)
    bad = tl.sum(tl.where(tl.abs(x) < largest, 0, 1), 1, keep_dims=True)  # nan is not less
    keep = (tl.load(valid + row, mask=row < n, other=0) != 0) & (bad == 0)
    tl.store(out + row * d + place, tl.where(keep, x, 0.0), mask=inside)
    tl.store(kept + row, keep, mask=row < n)


@torch.library.custom_op("rotvq::add_up", mutates_args=())
def add_up(z: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Number and sum of the vectors of each code.

    Args:
        z: (n, d) float32, all finite.
        indices: (n,) int64 in [0, k]; vectors with index k are left out.
        k: number of codes.

    Returns:
        (k,) and (k, d), float64.
    """
    d, z = z.shape[1], z.contiguous()
    ordered, order = torch.sort(indices, stable=True)
    first = torch.searchsorted(ordered, torch.arange(k + 1, device=z.device))
    total = torch.empty(k, d, dtype=torch.float64, device=z.device)
    width = min(128, triton.next_power_of_2(d))
    _add_up[(k, triton.cdiv(d, width))](z, order, first, total, d, 32, width)
    return first.diff().double(), total


@add_up.register_fake
def _(z: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return (
        z.new_empty(k, dtype=torch.float64),
        z.new_empty(k, z.shape[1], dtype=torch.float64),
    )


@triton.jit
def _add_up(z, order, first, total, d, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    code = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    start, end = tl.load(first + code), tl.load(first + code + 1)
    sums = tl.zeros((ROWS, WIDTH), tl.float64)
    for step in range(start, end, ROWS):
        at = step + tl.arange(0, ROWS)
        vector = tl.load(order + at, mask=at < end, other=0)
        inside = (at[:, None] < end) & (place[None, :] < d)
        sums += tl.load(z + vector[:, None] * d + place, mask=inside, other=0.0).to(tl.float64)
    tl.store(total + code * d + place, tl.sum(sums, 0), mask=place < d)
