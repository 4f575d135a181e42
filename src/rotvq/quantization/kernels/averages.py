"""The step of an EMA codebook."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rotvq.quantization.kernels.tile import tile


@torch.library.custom_op("rotvq::average", mutates_args=())
def average(
    e: Tensor, N: Tensor, m: Tensor, n: Tensor, s: Tensor, rate: Tensor, never: float, start: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The step of `updates.EMA`.

    Args:
        e: (k, d) float32; m and s likewise.
        N: (k,) float32; n likewise.
        m: moving average of the sums.
        n: counts of the step.
        s: sums of the step.
        rate: () float32, 1 − γ.
        never: `updates._NEVER_USED`.
        start: the largest element of codes that are still at their uniform start.

    Returns:
        The new e, N and m.
    """
    k, d = e.shape
    e, N, m, n, s = (t.contiguous() for t in (e, N, m, n, s))
    new = torch.empty_like(e), torch.empty_like(N), torch.empty_like(m)
    rows, width = tile(d)
    given = torch.linalg.vector_norm(N, torch.inf), torch.linalg.vector_norm(e, torch.inf)
    _average[(triton.cdiv(k, rows),)](
        e, N, m, n, s, rate, *given, n.mean(), *new, k, d, never, start, rows, width
    )
    return new


@average.register_fake
def _(
    e: Tensor, N: Tensor, m: Tensor, n: Tensor, s: Tensor, rate: Tensor, never: float, start: float
) -> tuple[Tensor, Tensor, Tensor]:
    return e.new_empty(e.shape), N.new_empty(N.shape), m.new_empty(m.shape)


@triton.jit
def _average(
    e, N, m, n, s, rate, most, reach, mean, new_e, new_N, new_m, k, d, never, start,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    place = tl.arange(0, WIDTH)[None, :]
    at, inside = row * d + place, (row < k) & (place < d)
    share = tl.load(rate)
    code = tl.load(e + at, mask=inside, other=0.0)
    total = tl.load(m + at, mask=inside, other=0.0)
    count = tl.load(N + row, mask=row < k, other=0.0)
    found = tl.load(n + row, mask=row < k, other=0.0)
    written = (tl.load(most) == 0) & (tl.load(reach) > start)
    count = tl.where(written, tl.where(found > 0, found, tl.load(mean)), count)
    divisor = tl.where(count > never, count, 1.0)
    moved = (count > never) & (code != tl.div_rn(total, tl.broadcast_to(divisor, total.shape)))
    total = tl.where(moved, count * code, total)
    count = _between(count, found, share)
    total = _between(total, tl.load(s + at, mask=inside, other=0.0), share)
    divisor = tl.where(count > never, count, 1.0)
    mean_of_code = tl.div_rn(total, tl.broadcast_to(divisor, total.shape))
    tl.store(new_e + at, tl.where(count > never, mean_of_code, code), mask=inside)
    tl.store(new_N + row, count, mask=row < k)
    tl.store(new_m + at, total, mask=inside)


@triton.jit
def _between(a, b, share):
    """As `torch.lerp`: exactly b at a share of 1."""
    return tl.where(share < 0.5, a + share * (b - a), b - (1 - share) * (b - a))
