"""K-means over the vectors of a step, to start a codebook from."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rotvq.quantization.search import nearest
from rotvq.quantization.statistics import add_up, first_of_equals, sum_dtype

STEPS = 10
VECTORS = 64
"""Vectors a code that k-means looks at, at most."""


def kmeans(
    z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Centres of k clusters and the number of vectors in each.

    The seeds are vectors that all differ, drawn from torch's global generator. With fewer different
    vectors than codes, the rest of the codes are slightly displaced copies.

    Args:
        z: float32, one vector or more; zeros where not valid.
        valid: False for vectors to leave out. Without a valid one the result means nothing.
        k: number of codes.
    """
    priority = torch.rand_like(z[:, 0]).where(valid, -1.0)
    kept = priority.topk(min(len(z), VECTORS * k)).indices
    z, valid = z[kept], valid[kept]
    fresh = first_of_equals(z, valid)
    seeds = z[fresh.logical_not().byte().argsort(stable=True)]
    number = fresh.sum()
    place = torch.arange(k, device=z.device)
    e = seeds[place % number.clamp_min(1)]
    spread = z.std(0, correction=0) / 100
    e = e + (place >= number).unsqueeze(1) * spread * torch.randn_like(e)
    for _ in range(STEPS):
        n = torch.zeros(k, dtype=sum_dtype(z.device), device=z.device)
        s = torch.zeros_like(e, dtype=n.dtype)
        add_up(n, s, z, nearest(z, e), valid)
        mean = (s / n.clamp_min(1.0).unsqueeze(1)).float()
        e = torch.where((n > 0).unsqueeze(1), mean, e)
    return e, n.float()
