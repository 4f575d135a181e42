"""Entropy losses: differentiable measures of how unevenly a batch uses the codes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
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
        # Far from the origin, squared lengths would hide the differences between distances.
        center = e.detach().float().mean(0)
        z, e = z.float() - center, e.float() - center
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


def binary_entropy_loss(
    z: Float[Tensor, "n d"],
    scale: float,
    temperature: float,
    group: int,
    kept: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """E[H(p)] + d·log 2 − H(p̄): 0 if every vector is sure of its code and all are used equally.

    p is the distribution softmax(−‖z − q‖² / τ) over the 2^d codes q ∈ {±s}^d of a vector, p̄ its
    mean over vectors (Yu et al., arXiv 2310.05737, eq. 5, with a constant that makes it positive).
    See `binary_entropies`.
    """
    each, batch = binary_entropies(z, scale, temperature, group, kept)
    return each + z.shape[1] * math.log(2) - batch


def binary_entropies(
    z: Float[Tensor, "n d"],
    scale: float,
    temperature: float,
    group: int,
    kept: Bool[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(E[H(p)], H(p̄)) in nats, without a table of the 2^d codes.

    The bits of p are independent, so its entropy is the exact sum of theirs (Zhao et al., arXiv
    2406.07548, eq. 9). Those of p̄ are not: the bits are taken in groups, and the sum over groups is
    an upper bound, which is exact for one group.

    Args:
        z: vectors, any floating dtype; computed in float32.
        scale: s.
        temperature: τ.
        group: number of bits in a group; takes memory for n × 2^group numbers.
        kept: False for vectors to leave out. If none is left, both are 0.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        weight = torch.ones_like(z[:, 0]) if kept is None else kept.float()
        weight = weight / weight.sum().clamp_min(1.0)
        score = 4 * scale / temperature * z
        positive = torch.sigmoid(score)
        own = (F.softplus(score) - score * positive).sum(1)
        batch = own.new_zeros(())
        for bits in positive.split(group, 1):
            joint = torch.ones_like(bits[:, :1])
            for p in bits.unbind(1):
                p = p.unsqueeze(1)
                joint = torch.cat([joint * (1 - p), joint * p], 1)
            share = weight @ joint
            batch = batch - (share * share.clamp_min(1e-30).log()).sum()
        return weight @ own, batch
