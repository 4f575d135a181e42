"""The search for the nearest codes; scores are never written to memory.

The product is computed as three in TensorFloat-32, with an error within a small factor of that of
float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rotvq.quantization.kernels.tile import tile

ROWS, CODES, DEPTH, WARPS = 128, 128, 32, 8
"""Of the search: vectors, codes and elements of d multiplied at a time, and warps per program."""

PROGRAMS = 132
"""Programs that keep a GPU busy; the codes are divided among them if the vectors are too few."""


@torch.library.custom_op("rotvq::search", mutates_args=())
def search(z: Tensor, e: Tensor, offset: Tensor) -> Tensor:
    """The index j that minimizes offset_j − z·e_j; the lowest one in case of ties.

    Args:
        z: (n, d) float32.
        e: (k, d) float32.
        offset: (k,) float32.

    Returns:
        (n,) int64 in [0, k).
    """
    (n, d), k = z.shape, len(e)
    if not n:
        return torch.empty(0, dtype=torch.int64, device=z.device)
    z, e, offset = z.contiguous(), e.contiguous(), offset.contiguous()
    tiles, parts = triton.cdiv(k, CODES), PROGRAMS // triton.cdiv(n, ROWS)
    share = triton.cdiv(tiles, max(1, parts)) * CODES
    grid = (triton.cdiv(n, ROWS), triton.cdiv(k, share))
    nearest = torch.empty(grid[1], n, dtype=torch.int64, device=z.device)
    _search[grid](z, e, offset, nearest, n, k, d, share, ROWS, CODES, DEPTH, num_warps=WARPS)
    return nearest.amin(0) & 0xFFFFFFFF


@search.register_fake
def _(z: Tensor, e: Tensor, offset: Tensor) -> Tensor:
    return z.new_empty(len(z), dtype=torch.int64)


@triton.jit
def _search(
    z, e, offset, nearest, n, k, d, share,
    ROWS: tl.constexpr, CODES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    part = tl.program_id(1)
    least = tl.full((ROWS,), float("inf"), tl.float32)
    index = tl.zeros((ROWS,), tl.int32)
    for start in range(part * share, tl.minimum(k, (part + 1) * share), CODES):
        code = start + tl.arange(0, CODES)[None, :]
        product = tl.zeros((ROWS, CODES), tl.float32)
        for first in range(0, d, DEPTH):
            across = first + tl.arange(0, DEPTH)[None, :]
            down = first + tl.arange(0, DEPTH)[:, None]
            left = tl.load(z + row * d + across, mask=(row < n) & (across < d), other=0.0)
            right = tl.load(e + code * d + down, mask=(code < k) & (down < d), other=0.0)
            product = tl.dot(left, right, product, input_precision="tf32x3")
        score = tl.load(offset + code, mask=code < k, other=float("inf")) - product
        score = tl.where(score == score, score, float("inf"))  # NaN is never nearest
        low, at = tl.min(score, 1, return_indices=True, return_indices_tie_break_left=True)
        index = tl.where(low < least, start + at, index)
        least = tl.minimum(low, least)
    # Integers in the order of the scores, then of the indices. Adding 0 clears the sign of -0.
    bits = (least + 0.0).to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered.to(tl.int64) << 32) | index.to(tl.int64)
    tl.store(nearest + part.to(tl.int64) * n + row, key[:, None], mask=row < n)


@torch.library.custom_op("rotvq::centered", mutates_args=())
def centered(e: Tensor, center: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """(e − center) / reach, and reach · ½‖·‖² of each row.

    Args:
        e: (k, d) float32.
        center: (d,) float32.
        reach: () float32, not negative; one that is too small to divide by is raised.

    Returns:
        (k, d) and (k,), float32.
    """
    (k, d), e, center = e.shape, e.contiguous(), center.contiguous()
    out, offset = torch.empty_like(e), e.new_empty(k)
    rows, width = tile(d)
    tiny = torch.finfo(e.dtype).tiny
    _centered[(triton.cdiv(k, rows),)](e, center, reach, out, offset, k, d, tiny, rows, width)
    return out, offset


@centered.register_fake
def _(e: Tensor, center: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    return e.new_empty(e.shape), e.new_empty(len(e))


@triton.jit
def _centered(
    e, center, reach, out, offset, k, d, tiny, ROWS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    place = tl.arange(0, WIDTH)[None, :]
    inside = (row < k) & (place < d)
    scale = tl.maximum(tl.load(reach), tiny)
    middle = tl.load(center + place, mask=place < d, other=0.0)
    scaled = (tl.load(e + row * d + place, mask=inside, other=0.0) - middle) / scale
    scaled = tl.where(inside, scaled, 0.0)
    tl.store(out + row * d + place, scaled, mask=inside)
    half = scale * 0.5 * tl.sum(scaled * scaled, 1, keep_dims=True)
    tl.store(offset + row, half, mask=row < k)
