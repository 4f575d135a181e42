"""K-means over the vectors of a step, to initialize a codebook."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rotvq.quantization.metrics import Metric, euclidean
from rotvq.quantization.search import nearest
from rotvq.quantization.statistics import add_up, first_of_equals, sum_dtype

_STEPS = 10
_VECTORS_PER_CODE = 64
"""Maximum number of vectors per code that k-means uses."""


def kmeans(
    z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"], k: int, project: Metric = euclidean
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """The centers of k clusters and the number of vectors in each.

    The seeds are distinct vectors, drawn with torch's global generator. With fewer distinct vectors
    than codes, the remaining codes are copies with a little noise.

    Args:
        z: one or more vectors, float32; zeros where not valid.
        valid: False for vectors to leave out. If none is valid, the result is meaningless.
        k: number of codes.
        project: where the centers lie, such as `cosine` for spherical k-means.
    """
    priority = torch.rand_like(z[:, 0]).where(valid, -1.0)
    kept = priority.topk(min(len(z), _VECTORS_PER_CODE * k)).indices
    z, valid = z[kept], valid[kept]
    fresh = first_of_equals(z, valid)
    seeds = z[fresh.logical_not().byte().argsort(stable=True)]
    number = fresh.sum()
    place = torch.arange(k, device=z.device)
    e = seeds[place % number.clamp_min(1)]
    spread = z.std(0, correction=0) / 100
    e = e + (place >= number).unsqueeze(1) * spread * torch.randn_like(e)
    for _ in range(_STEPS):
        n = torch.zeros(k, dtype=sum_dtype(z.device), device=z.device)
        s = torch.zeros_like(e, dtype=n.dtype)
        add_up(n, s, z, nearest(z, e), valid)
        mean = (s / n.clamp_min(1.0).unsqueeze(1)).float()
        e = project(torch.where((n > 0).unsqueeze(1), mean, e))
    return e, n.float()
