"""How far the use of a codebook is from even, as a loss that a gradient can follow."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TEMPERATURE = 0.3
"""Of the soft choice, in units of the mean squared distance of a vector to its code."""


EPSILON = 1e-6
"""Least mean squared distance, as a share of the longest code's squared length."""


def entropy_loss(
    z: Float[Tensor, "n d"], e: Float[Tensor, "k d"], kept: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, ""]:
    """log k − H(p̄): 0 where all codes are used alike, log k where all vectors choose one.

    p̄ is the mean over vectors of softmax(−‖z − e‖² / τs), with τ = 0.3 and s the mean squared
    distance to the nearest code; H is the entropy in nats. The batch's half of the entropy loss of
    Yu et al. (arXiv 2310.05737, eq. 5), with a scale that follows the codebook. It holds n×k
    numbers, unlike the search.

    Args:
        z: vectors, any floating dtype; computed in float32.
        e: codes.
        kept: False for vectors to leave out. With none left, the loss is log k and has no gradient.

    Returns:
        A scalar, 0 to log k, float32, with a gradient for z and for codes that are learned.
    """
    with torch.autocast(z.device.type, enabled=False):
        z, e = z.float(), e.float()
        weight = torch.ones_like(z[:, 0]) if kept is None else kept.float()
        weight = weight / weight.sum().clamp_min(1.0)
        size = e.square().sum(1)
        # −‖z − e‖² but for ‖z‖², which no choice depends on.
        score = 2 * z @ e.T - size
        error = (z.square().sum(1) - score.amax(1)).detach()
        floor = (EPSILON * size.max()).clamp_min(torch.finfo(size.dtype).tiny).detach()
        choice = torch.softmax(score / torch.maximum(TEMPERATURE * weight @ error, floor), 1)
        share = weight @ choice
        # entr's own slope at 0 is infinite, and a share may underflow.
        return math.log(len(e)) + (share * share.clamp_min(1e-30).log()).sum()
