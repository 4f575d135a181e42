"""The curvature of a decoder: how changes of neighboring codes act together, to second order.

Symbols: J_t, the Jacobian of the decoder's output with respect to the code of token t. Changes δ of
the codes add g·δ + Σ_t Σ_u δ_tᵀ J_tᵀJ_u δ_u to the squared error with gradient g (Gauss-Newton).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_PROBES = 2
"""Number of random outputs per grid of codes."""


def curvature(
    decode: Callable[[Float[Tensor, "b d h w"]], Float[Tensor, "b c i j"]],
    codes: Float[Tensor, "b d h w"],
    generator: torch.Generator,
) -> Float[Tensor, "d d 3 3"]:
    """Means of J_tᵀJ_u over positions t, for u up to one row and one column from t.

    Estimated from products with random outputs v (Hutchinson 1990): if their elements are
    independent with variance 1, J_tᵀJ_u is the mean of (Jᵀv)_t (Jᵀv)_uᵀ.

    Args:
        decode: maps codes to images.
        codes: the codes to measure at, at least 2x2 tokens each.
        generator: generator of v.

    Returns:
        At [:, :, 1 + i, 1 + j], the mean for u that is i rows below and j columns right of t.
    """
    d = codes.shape[1]
    sums, counts = codes.new_zeros(d, d, 3, 3), codes.new_zeros(3, 3)
    for _ in range(_PROBES):
        with torch.enable_grad():
            at = codes.detach().requires_grad_()
            y = decode(at)
            v = torch.randn(y.shape, generator=generator).to(y)
            (g,) = torch.autograd.grad((y * v).sum(), at)
        for i in range(3):
            for j in range(3):
                t, u = _pairs(g, i - 1, j - 1)
                sums[:, :, i, j] += t @ u.T
                counts[i, j] += t.shape[1]
    return sums / counts


def _pairs(g: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """The vectors of all tokens that have a neighbor at a displacement, and those neighbors'."""
    h, w = g.shape[2:]
    t = g[:, :, max(0, -down) : h - max(0, down), max(0, -right) : w - max(0, right)]
    u = g[:, :, max(0, down) : h - max(0, -down), max(0, right) : w - max(0, -right)]
    return t.transpose(0, 1).flatten(1), u.transpose(0, 1).flatten(1)
