"""The bfloat16 search: candidates from a product in bfloat16, decided in float32.

On a CPU that multiplies in bfloat16, that product takes half the time. The error of its scores is
bounded, so every code that may have the lowest score is kept and scored again in float32: the index
is the one that the float32 search finds.

With hats for values rounded to bfloat16, u = 2⁻⁸ and a shift t that keeps scores small, the score
s_j = offset_j + t − z·e_j is computed as ŝ_j with |ŝ_j − s_j| ≤ u |ŝ_j| + δ,

    δ = ‖ẑ − z‖ max‖ê‖ + ‖z‖ max‖ê − e‖ + (u² + 2⁻²³ (d + 4)) (max offset + t + ‖ẑ‖ max‖ê‖),

by Cauchy and Schwarz. The norms of the rounding errors are measured; offset and t enter the product
as the sum of two bfloat16 numbers each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rotvq import processor
from rotvq.quantization.search_float32 import Search, float32_search
from rotvq.quantization.tensors import readable

_GROUP = 32
"""Scores reduced at a time; the codes of a group are k/32 apart."""

_LEAST_ELEMENTS = 1 << 20
"""Elements of a codebook from which the product saves more than the second pass costs."""

_MOST_CANDIDATES = 16
"""Candidates per vector, on average over a block, up to which a second pass pays off."""

_U = 2.0**-8
"""Relative rounding error of bfloat16."""


def is_faster(z: Tensor, e: Tensor) -> bool:
    """Whether this search is the faster one for these vectors and codes on this machine."""
    return (
        z.device.type == "cpu"
        and e.dtype == torch.float32
        and e.numel() >= _LEAST_ELEMENTS
        and readable()
        and processor.has_bf16()
    )


def bfloat16_search(e: Float[Tensor, "k d"], offset: Float[Tensor, " k"]) -> Search:
    """Finds what `float32_search` finds."""
    exact, size, rest = float32_search(e, offset), len(e), -len(e) % _GROUP
    most = offset.max().clamp_min(torch.finfo(offset.dtype).tiny)
    if rest:
        e = F.pad(e, (0, 0, 0, rest))
        offset = F.pad(offset, (0, rest), value=torch.finfo(torch.bfloat16).max)
    hat = e.bfloat16()
    ones = torch.ones(len(e), 2, dtype=hat.dtype)
    right = torch.cat([-hat, _pieces(offset), ones], 1).T
    longest, hat_longest = _norm(e).max(), _norm(hat).max()
    lost = _norm(hat - e).max()
    fine = _U**2 + 2.0**-23 * right.shape[0]

    def search(z: Tensor) -> tuple[Tensor, Tensor]:
        hat = z.bfloat16()
        norm, hat_norm = _norm(z), _norm(hat)
        # No score is below -shift, which belongs to a code along z of at most the largest norm.
        reach = norm * longest
        share = (reach / (2 * most)).clamp_max(1.0)
        shift = reach * share - most * share.square()
        ones = torch.ones(len(z), 2, dtype=hat.dtype)
        scores = torch.mm(torch.cat([hat, ones, _pieces(shift)], 1), right)
        error = _norm(hat - z) * hat_longest + norm * lost
        error += fine * (most + shift + hat_norm * hat_longest)

        groups = scores.unflatten(1, (_GROUP, -1))
        lows = groups.amin(1)
        limit = lows.amin(1).float()
        limit = _above(_above(limit) + 2 * error).unsqueeze(1)
        row, group = (lows <= limit).nonzero(as_tuple=True)
        if len(row) > _MOST_CANDIDATES * len(z):
            return exact(z)
        pair, place = (groups[row, :, group] <= limit[row]).nonzero(as_tuple=True)
        if len(pair) > _MOST_CANDIDATES * len(z):
            return exact(z)
        row, code = row[pair], place * groups.shape[2] + group[pair]
        score = offset[code] - (z[row] * e[code]).sum(1)
        least = z.new_full((len(z),), torch.inf).scatter_reduce_(0, row, score, "amin")
        if not least.isfinite().all():  # the bound has overflowed for some vector
            return exact(z)
        code = code.where(score == least[row], size - 1)
        index = code.new_full((len(z),), size - 1).scatter_reduce_(0, row, code, "amin")
        return least, index

    return search


def _pieces(x: Tensor) -> Tensor:
    """x (n,) as two columns in bfloat16 whose sum has a relative error of u²."""
    high = x.bfloat16()
    return torch.stack([high, (x - high).bfloat16()], 1)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32)


def _above(x: Tensor) -> Tensor:
    """An upper bound on every value that rounds to x, and on what x rounds to."""
    return x + 2 * _U * x.abs()
