"""Nearest codes by Euclidean distance (eq. 2), without an n×k matrix.

argmin_j ‖z − e_j‖² = argmin_j ½‖e_j‖² − z·e_j, so a block of vectors costs one matrix product. To
keep it accurate in float32, vectors and codes are centered on the mean of the codebook μ (a common
offset would cancel most digits) and scaled so that nothing overflows.

Guarantee, with ε = 2⁻²³ in float32: the squared distance to the returned code exceeds the least one
by at most c·ε·(‖z − μ‖ + max_j ‖e_j − μ‖)², c = d + 8 (about √d in practice). Where the runner-up
is farther than that, the index is exact. Of codes with equal scores, the lowest index is returned.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization.backend import kernels_for
from rotvq.quantization.search_bfloat16 import bfloat16_search, is_faster
from rotvq.quantization.search_float32 import float32_search
from rotvq.quantization.tensors import exporting

BLOCK = 1 << 20
"""Scores that a CPU holds at a time, 4 MiB in float32: about a core's share of the cache. The
bfloat16 search holds twice as many; a GPU 64 times, to be busy."""

CODES = 1 << 13
"""Codes that a CPU compares with at a time, so that a block has enough rows and copies of the codes
stay small. A GPU takes 64 times as many."""


@torch.no_grad()
def nearest(z: Float[Tensor, "n d"], codes: Float[Tensor, "k d"]) -> Int64[Tensor, " n"]:
    """Index of the nearest code of each vector (eq. 2).

    Computed in float32 whatever the dtypes and autocast (in float64 if both are float64). The
    guarantee at the top of the module needs torch's default float32 matmul precision, "highest".

    Args:
        z: vectors. One that is not finite gets an arbitrary valid index.
        codes: all finite.

    Returns:
        Indices in [0, k).

    Raises:
        UserError: z or codes of another shape.
    """
    e = codes
    if z.ndim != 2 or e.ndim != 2 or z.shape[1] != e.shape[1]:
        raise UserError(
            f"nearest: expected vectors (n, d) and codes (k, d); got {tuple(z.shape)} and "
            f"{tuple(e.shape)}. For other layouts, use nearest_codes."
        )
    work = torch.float64 if z.dtype == e.dtype == torch.float64 else torch.float32
    on_cpu = z.device.type == "cpu"
    chunk = min(CODES if on_cpu else 64 * CODES, len(e))
    search = bfloat16_search if is_faster(z, e, work) else float32_search
    # On a CPU, the vectors of a block share the cache with its scores.
    rows = min(BLOCK // chunk, BLOCK // 4 // e.shape[1]) if on_cpu else 64 * BLOCK // chunk
    rows = max(1, 2 * rows if search is bfloat16_search else rows)
    # The length of a loop in an exported program must not depend on the batch.
    blocks = (z,) if exporting() else z.split(rows)
    kernels = kernels_for(z)
    with torch.autocast(device_type=z.device.type, enabled=False):
        e = e.to(work)
        center = e.mean(0)
        if kernels is not None:
            largest = torch.linalg.vector_norm(e, torch.inf)  # as good as the reach
            e, offset = kernels.centered(e, center, largest)
            return kernels.search(z.to(work) - center, e, offset)
        # Scores are divided by the reach of the codebook, so that ½‖e‖² does not overflow.
        reach = torch.maximum(e.amax(0) - center, center - e.amin(0)).max()
        reach = reach.clamp_min(torch.finfo(work).tiny)
        least = torch.full_like(z[:, 0], torch.inf, dtype=work)
        index = torch.zeros_like(least, dtype=torch.int64)
        for start in range(0, len(e), chunk):
            part = (e[start : start + chunk] - center) / reach
            offset = reach * 0.5 * part.square().sum(1)
            find = search(part, offset)
            if chunk == len(e):
                return torch.cat([find(b.to(work) - center) for b in blocks])
            places, scores = [], []
            for b in blocks:
                b = b.to(work) - center
                places.append(find(b))
                scores.append(offset[places[-1]] - (b * part[places[-1]]).sum(1))
            score, place = torch.cat(scores), torch.cat(places)
            index = torch.where(score < least, place + start, index)
            least = torch.minimum(score, least)
        return index
