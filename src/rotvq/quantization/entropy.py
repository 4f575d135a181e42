"""The entropy loss: a differentiable measure of how unevenly a batch uses the codes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_TEMPERATURE = 0.3
"""τ, the temperature of the soft assignment relative to the mean squared distance to a code."""

_EPSILON = 1e-6
"""Lower bound of τs, relative to the squared length of the longest code."""


def entropy_loss(
    z: Float[Tensor, "n d"], e: Float[Tensor, "k d"], kept: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, ""]:
    """log k − H(p̄): 0 if all codes are used equally, log k if all vectors choose the same code.

    p̄ is the mean over vectors of softmax(−‖z − e‖² / τs), with τ = 0.3 and s the mean squared
    distance to the nearest code; H is the entropy in nats. This is the batch term of the entropy
    loss of Yu et al. (arXiv 2310.05737, eq. 5), with a temperature relative to the codebook. Unlike
    the search, it needs memory for n×k values.

    Args:
        z: vectors, any floating dtype; computed in float32.
        e: codes.
        kept: False for vectors to leave out. If none is left, the loss is log k, without gradient.

    Returns:
        A float32 scalar from 0 to log k, with a gradient for z and for learned codes.
    """
    with torch.autocast(z.device.type, enabled=False):
        z, e = z.float(), e.float()
        weight = torch.ones_like(z[:, 0]) if kept is None else kept.float()
        weight = weight / weight.sum().clamp_min(1.0)
        size = e.square().sum(1)
        # −‖z − e‖² + ‖z‖², whose softmax is the same.
        score = 2 * z @ e.T - size
        error = (z.square().sum(1) - score.amax(1)).detach()
        floor = (_EPSILON * size.max()).clamp_min(torch.finfo(size.dtype).tiny).detach()
        choice = torch.softmax(score / torch.maximum(_TEMPERATURE * weight @ error, floor), 1)
        share = weight @ choice
        # The slope of torch.special.entr is infinite at 0, and a share may underflow.
        return math.log(len(e)) + (share * share.clamp_min(1e-30).log()).sum()
