"""The gradient of the rotation, which reads each vector once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rotvq.quantization.kernels.tile import tile


@torch.library.custom_op("rotvq::rotate", mutates_args=())
def rotate(z: Tensor, q: Tensor, g: Tensor, antiparallel: float, lambda_max: float) -> Tensor:
    """λRᵀg, or Rᵀg without rescaling, with the special cases described in `estimators`.

    Args:
        z: vectors (n, d), any floating dtype except float64; q and g likewise.
        q: their codes.
        g: gradient at the codes.
        antiparallel: `estimators.ANTIPARALLEL`.
        lambda_max: upper bound of λ; 0 omits λ.

    Returns:
        Gradient for z, in z's shape and dtype.
    """
    (n, d), z, q, g = z.shape, z.contiguous(), q.contiguous(), g.contiguous()
    out = torch.empty_like(z)
    if n:
        rows, width = tile(d)
        finite = torch.finfo(z.dtype).max
        grid = (triton.cdiv(n, rows),)
        _rotate[grid](
            z, q, g, out, n, d, finite, antiparallel, lambda_max, lambda_max > 0, rows, width
        )  # fmt: skip
    return out


@rotate.register_fake
def _(z: Tensor, q: Tensor, g: Tensor, antiparallel: float, lambda_max: float) -> Tensor:
    return z.new_empty(z.shape)


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
