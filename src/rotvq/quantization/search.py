"""Nearest codes by Euclidean distance (eq. 2), without an n×k matrix.

argmin_j ‖z − e_j‖² = argmin_j ½‖e_j‖² − z·e_j, so a block of vectors costs one matrix product. Two
steps keep float32 honest: both sides are centred on the codebook's mean μ (a shared offset would
eat the digits), and scaled so that nothing overflows.

Guarantee, with ε = 2⁻²³ in float32: the squared distance of the returned code exceeds the least one
by at most c·ε·(‖z − μ‖ + max_j ‖e_j − μ‖)², c = d + 8 (about √d in practice). Where the runner-up
is further off than that, the index is exact. Of codes with equal scores the lowest index is taken.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.quantization.backend import kernels_for
from rotvq.quantization.scores import plain
from rotvq.quantization.search_bf16 import pays, screened
from rotvq.quantization.tensors import exporting

BLOCK = 1 << 20
"""Scores a processor holds at a time, 4 MiB in float32: near a core's share of the cache. A GPU
holds 64 times as many, to have enough to do."""

CODES = 1 << 13
"""Codes a processor compares with at a time, so that a block has some rows and copies of codes stay
small. A GPU takes 64 times as many."""


@torch.no_grad()
def nearest(z: Float[Tensor, "n d"], e: Float[Tensor, "k d"]) -> Int64[Tensor, " n"]:
    """Index of the nearest code of each vector (eq. 2).

    Computed in float32 whatever the dtypes and autocast (in float64 if both are float64). The
    guarantee in the module's head needs torch's default float32 matmul precision, "highest".

    Args:
        z: vectors. One that is not finite gets an arbitrary valid index.
        e: codes, all finite.

    Returns:
        Indices in [0, k).
    """
    work = torch.float64 if z.dtype == e.dtype == torch.float64 else torch.float32
    on_cpu = z.device.type == "cpu"
    codes = min(CODES if on_cpu else 64 * CODES, len(e))
    rows = max(1, (BLOCK if on_cpu else 64 * BLOCK) // codes)
    # An exported program must not depend on the batch through the length of a loop.
    blocks = (z,) if exporting() else z.split(rows)
    search = screened if pays(z, e) else plain
    kernels = kernels_for(z)
    with torch.autocast(device_type=z.device.type, enabled=False):
        e = e.to(work)
        centre = e.mean(0)
        # Scores are divided by the codebook's reach: ½‖e‖² of elements of 1e19 would not overflow.
        reach = torch.maximum(e.amax(0) - centre, centre - e.amin(0)).max()
        reach = reach.clamp_min(torch.finfo(work).tiny)
        if kernels is not None:
            e = (e - centre) / reach
            return kernels.search(z.to(work) - centre, e, reach * 0.5 * e.square().sum(1))
        least = torch.full_like(z[:, 0], torch.inf, dtype=work)
        index = torch.zeros_like(least, dtype=torch.int64)
        for start in range(0, len(e), codes):
            part = (e[start : start + codes] - centre) / reach
            find = search(part, reach * 0.5 * part.square().sum(1))
            scores, places = zip(*(find(b.to(work) - centre) for b in blocks), strict=True)
            score, place = torch.cat(scores), torch.cat(places)
            index = torch.where(score < least, place + start, index)
            least = torch.minimum(score, least)
        return index
