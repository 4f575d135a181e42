"""The bfloat16 search: candidates from a product in bfloat16, decided in float32.

On a CPU that multiplies in bfloat16, that product takes half the time. The error of its scores is
bounded, so every code that may have the lowest score is kept. Where several are kept, they are
scored again in float32: the index is the one that the float32 search finds.

With hats for values rounded to bfloat16, u = 2⁻⁸ and a shift t that keeps scores small, the score
s_j = offset_j + t − z·e_j is computed as ŝ_j with |ŝ_j − s_j| ≤ u |ŝ_j| + δ,

    δ = ‖ẑ − z‖ max‖ê‖ + ‖z‖ max‖ê − e‖ + (u² + 2⁻²³ (d + 4)) (max offset + t + ‖ẑ‖ max‖ê‖),

by Cauchy and Schwarz. If ŝ_i is the lowest, s_i ≤ ŝ_i (1 + u) + δ; as rounding is monotonic, no
code whose ŝ_j exceeds the rounded ŝ_i (1 + u) + 2δ has a lower score. The norms of the rounding
errors are measured; offset and t enter the product as the sum of two bfloat16 numbers each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rotvq import processor
from rotvq.quantization.search_float32 import Search, float32_search
from rotvq.quantization.tensors import readable

_GROUP = 16
"""Scores reduced at a time; the codes of a group are k/16 apart."""

_LEAST_ELEMENTS = 1 << 18
"""Elements of a codebook from which the product saves more than the second pass costs."""

_MOST_CANDIDATES = 16
"""Candidates per vector, on average over a block, up to which a second pass pays off."""

_BLOCK = 1 << 17
"""Elements multiplied at a time in the second pass: 512 KiB."""

_U = 2.0**-8
"""Relative rounding error of bfloat16."""


def is_faster(z: Tensor, e: Tensor, work: torch.dtype) -> bool:
    """Whether this search in the dtype `work` is the faster one on this machine."""
    return (
        z.device.type == "cpu"
        and work == torch.float32
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
    resolved = True  # until a block of vectors has too many candidates

    def search(z: Tensor) -> Tensor:
        nonlocal resolved
        if not resolved:
            return exact(z)
        hat, norm = z.bfloat16(), _norm(z)
        # No score is below -shift, which belongs to a code along z of at most the largest norm.
        reach = norm * longest
        share = (reach / (2 * most)).clamp_max(1.0)
        shift = reach * share - most * share.square()
        error = _norm(hat - z) * hat_longest + norm * lost
        error += fine * (most + shift + 2 * norm * hat_longest)
        # So that no computed score is negative, and they compare like their bits.
        shift += 2 * error
        error *= 1 + 2 * fine
        ones = torch.ones(len(z), 2, dtype=hat.dtype)
        scores = torch.mm(torch.cat([hat, ones, _pieces(shift)], 1), right)

        groups = scores.view(torch.int16).unflatten(1, (_GROUP, -1))
        lows = groups.amin(1)
        limit = lows.amin(1).view(torch.bfloat16).float()
        # One per cent more for the rounding of the limit itself; that to bfloat16 is monotonic.
        limit = limit * (1 + 1.01 * _U) + 2.01 * error
        if not limit.isfinite().all():  # the bound has overflowed for some vector
            return exact(z)
        limit = limit.bfloat16().view(torch.int16).unsqueeze(1)
        row, group = (lows <= limit).nonzero(as_tuple=True)
        if len(row) > _MOST_CANDIDATES * len(z):
            resolved = False
            return exact(z)
        pair, place = (groups[row, :, group] <= limit[row]).nonzero(as_tuple=True)
        if len(pair) > _MOST_CANDIDATES * len(z):
            resolved = False
            return exact(z)
        row, code = row[pair], place * groups.shape[2] + group[pair]
        rivals = (row.bincount(minlength=len(z))[row] > 1).nonzero().squeeze(1)
        score = z.new_zeros(len(row))
        score[rivals] = offset[code[rivals]] - _dot(z, e, row[rivals], code[rivals])
        least = z.new_full((len(z),), torch.inf).scatter_reduce_(0, row, score, "amin")
        code = code.where(score == least[row], size - 1)
        return code.new_full((len(z),), size - 1).scatter_reduce_(0, row, code, "amin")

    return search


def _dot(z: Tensor, e: Tensor, row: Tensor, code: Tensor) -> Tensor:
    """z·e of pairs of a row and a code, a few at a time, so that they stay in the cache."""
    pairs = zip(*(t.split(max(1, _BLOCK // z.shape[1])) for t in (row, code)), strict=True)
    return torch.cat([z.index_select(0, r).mul_(e.index_select(0, c)).sum(1) for r, c in pairs])


def _pieces(x: Tensor) -> Tensor:
    """x (n,) as two columns in bfloat16 whose sum has a relative error of u²."""
    high = x.bfloat16()
    return torch.stack([high, (x - high).bfloat16()], 1)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32)
