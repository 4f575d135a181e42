"""GPU kernels in Triton: nearest codes, the gradient of the rotation, the sum for each code.

Each computes the same as the PyTorch code, without its intermediate tensors:

- `search`: scores and their argmin in one kernel; scores are never written to memory. The product
  is computed as three in TensorFloat-32, with an error within a small factor of that of float32.
- `rotate`: λRᵀg or Rᵀg, reading each vector once.
- `add_up`: the sum of the vectors of each code, in a fixed order and without atomics, so that
  results are reproducible bit for bit.

To `torch.compile` they are opaque operators. Importing this module requires `triton`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CODES, DEPTH, WARPS = 128, 128, 32, 8
"""Of the search: vectors, codes and elements of d multiplied at a time, and warps per program."""

PROGRAMS = 132
"""Programs that keep a GPU busy; the codes are divided among them if the vectors are too few."""


@torch.library.custom_op("rotvq::search", mutates_args=())
def search(z: Tensor, e: Tensor, offset: Tensor) -> Tensor:
    """The index j that minimizes offset_j − z·e_j; the lowest one in case of ties.

    Args:
        z: (n, d) float32, contiguous.
        e: (k, d) float32, contiguous.
        offset: (k,) float32.

    Returns:
        (n,) int64 in [0, k).
    """
    (n, d), k = z.shape, len(e)
    if not n:
        return torch.empty(0, dtype=torch.int64, device=z.device)
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


@torch.library.custom_op("rotvq::rotate", mutates_args=())
def rotate(z: Tensor, q: Tensor, g: Tensor, antiparallel: float, lambda_max: float) -> Tensor:
    """λRᵀg, or Rᵀg without rescaling, with the special cases described in `estimators`.

    Args:
        z: vectors (n, d), any floating dtype except float64, contiguous; q and g likewise.
        q: their codes.
        g: gradient at the codes.
        antiparallel: `estimators.ANTIPARALLEL`.
        lambda_max: upper bound of λ; 0 omits λ.

    Returns:
        Gradient for z, in z's shape and dtype.
    """
    n, d = z.shape
    out = torch.empty_like(z)
    if n:
        width = triton.next_power_of_2(d)
        rows = max(1, 4096 // width)
        finite = torch.finfo(z.dtype).max
        grid = (triton.cdiv(n, rows),)
        _rotate[grid](
            z, q, g, out, n, d, finite, antiparallel, lambda_max, lambda_max > 0, rows, width
        )  # fmt: skip
    return out


@rotate.register_fake
def _(z: Tensor, q: Tensor, g: Tensor, antiparallel: float, lambda_max: float) -> Tensor:
    return torch.empty_like(z)


@triton.jit
def _rotate(
    z, q, g, out, n, d, finite, antiparallel, lambda_max,
    RESCALE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    place = tl.arange(0, WIDTH)[None, :]
    inside = (row < n) & (place < d)
    at = row * d + place
    x = tl.load(z + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(q + at, mask=inside, other=0.0).to(tl.float32)
    arrived = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    x_norm, y_norm = _norm(x), _norm(y)
    x_hat = x / tl.where(x_norm == 0, 1.0, x_norm)
    y_hat = y / tl.where(y_norm == 0, 1.0, y_norm)
    s = x_hat + y_hat
    s_norm = _norm(s)
    directed = (x_norm > 0) & (y_norm > 0)
    along_s = tl.sum(s * arrived, 1, keep_dims=True) / (s_norm * s_norm)
    along_s = tl.where(directed & (s_norm >= antiparallel), along_s, 0.0)
    along_q = tl.where(directed, tl.sum(y_hat * arrived, 1, keep_dims=True), 0.0)
    turned = arrived - 2 * s * along_s + 2 * x_hat * along_q
    if RESCALE:
        ratio = tl.minimum(y_norm / tl.where(x_norm == 0, 1.0, x_norm), lambda_max)
        turned = turned * tl.where(x_norm == 0, 1.0, ratio)
    bounded = tl.clamp(turned, -finite, finite, propagate_nan=tl.PropagateNan.ALL)
    # An overflowed gradient must stay non-finite, so that the loss scaler detects it.
    is_finite = tl.abs(arrived) < float("inf")
    tl.store(out + at, tl.where(is_finite, bounded, arrived), mask=inside)


@triton.jit
def _norm(x):
    wide = x.to(tl.float64)
    norm = tl.sqrt(tl.sum(wide * wide, 1, keep_dims=True))
    return tl.minimum(norm, 3.4028234663852886e38).to(tl.float32)


@torch.library.custom_op("rotvq::add_up", mutates_args=())
def add_up(z: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Number and sum of the vectors of each code.

    Args:
        z: (n, d) float32, contiguous, all finite.
        indices: (n,) int64 in [0, k]; vectors with index k are left out.
        k: number of codes.

    Returns:
        (k,) and (k, d), float64.
    """
    d = z.shape[1]
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
