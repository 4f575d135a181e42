"""Scores by a product in bfloat16, and in float32 for the few codes that may be nearest.

Where a processor multiplies in bfloat16, that product takes half the time. Its scores carry a known
error, so every code that may have the least score is kept and scored again in float32: the index
is the one that float32 alone would have found.

With hats for values rounded to bfloat16, u = 2⁻⁸ and a shift t that keeps scores small, the score
s_j = offset_j + t − z·e_j is computed as ŝ_j with |ŝ_j − s_j| ≤ u |ŝ_j| + δ,

    δ = ‖ẑ − z‖ max‖ê‖ + ‖z‖ max‖ê − e‖ + (u² + 2⁻²³ (d + 4)) (max offset + t + ‖ẑ‖ max‖ê‖),

by Cauchy and Schwarz. Norms of what rounding took away are measured; offset and t enter the product
in two pieces each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rotvq import processor
from rotvq.quantization.scores import Search, plain
from rotvq.quantization.tensors import readable

GROUP = 32
"""Codes whose least score is found at once; the codes of a group lie k/GROUP apart."""

WORK = 1 << 20
"""Elements of a codebook from which the product saves more than the second look costs."""

MOST = 16
"""Codes a vector, on average over a block, that a second look is worth."""

U = 2.0**-8
"""Half the distance of neighbouring values in bfloat16, relative to them."""


def pays(z: Tensor, e: Tensor) -> bool:
    """Whether this is the quicker search for these vectors and codes on this machine."""
    return (
        z.device.type == "cpu"
        and e.dtype == torch.float32
        and e.numel() >= WORK
        and readable()
        and processor.has_bf16()
    )


def screened(e: Float[Tensor, "k d"], offset: Float[Tensor, " k"]) -> Search:
    """As `scores.plain`, with the first product in bfloat16."""
    exact, size, rest = plain(e, offset), len(e), -len(e) % GROUP
    most = offset.max().clamp_min(torch.finfo(offset.dtype).tiny)
    if rest:
        e = F.pad(e, (0, 0, 0, rest))
        offset = F.pad(offset, (0, rest), value=torch.finfo(torch.bfloat16).max)
    hat = e.bfloat16()
    ones = torch.ones(len(e), 2, dtype=hat.dtype)
    right = torch.cat([-hat, _pieces(offset), ones], 1).T
    longest, hat_longest = _norm(e).max(), _norm(hat).max()
    lost = _norm(hat - e).max()
    fine = U**2 + 2.0**-23 * right.shape[0]

    def search(z: Tensor) -> tuple[Tensor, Tensor]:
        hat = z.bfloat16()
        norm, hat_norm = _norm(z), _norm(hat)
        # No score is below -shift: of codes up to the longest, the nearest could lie along z.
        reach = norm * longest
        share = (reach / (2 * most)).clamp_max(1.0)
        shift = reach * share - most * share.square()
        ones = torch.ones(len(z), 2, dtype=hat.dtype)
        scores = torch.mm(torch.cat([hat, ones, _pieces(shift)], 1), right)
        error = _norm(hat - z) * hat_longest + norm * lost
        error += fine * (most + shift + hat_norm * hat_longest)

        groups = scores.unflatten(1, (GROUP, -1))
        lows = groups.amin(1)
        limit = lows.amin(1).float()
        limit = _above(_above(limit) + 2 * error).unsqueeze(1)
        row, group = (lows <= limit).nonzero(as_tuple=True)
        if len(row) > MOST * len(z):
            return exact(z)
        pair, place = (groups[row, :, group] <= limit[row]).nonzero(as_tuple=True)
        if len(pair) > MOST * len(z):
            return exact(z)
        row, code = row[pair], place * groups.shape[2] + group[pair]
        score = offset[code] - (z[row] * e[code]).sum(1)
        least = z.new_full((len(z),), torch.inf).scatter_reduce_(0, row, score, "amin")
        if not least.isfinite().all():  # a vector beyond what the bound can be computed for
            return exact(z)
        code = code.where(score == least[row], size - 1)
        index = code.new_full((len(z),), size - 1).scatter_reduce_(0, row, code, "amin")
        return least, index

    return search


def _pieces(x: Tensor) -> Tensor:
    """x (n,) as the sum of two columns in bfloat16, to u² of itself."""
    high = x.bfloat16()
    return torch.stack([high, (x - high).bfloat16()], 1)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32)


def _above(x: Tensor) -> Tensor:
    """No value that rounds to x, or that x rounds to, is larger."""
    return x + 2 * U * x.abs()
