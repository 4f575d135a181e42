"""The peer's auxiliary losses, which need the scores of all codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization import Quantized, VectorQuantizer, distances
from rotvq.quantization.tensors import checked_indices


class LossBreakdown(NamedTuple):
    """The losses of a pass, without their weights."""

    commitment: Float[Tensor, ""]
    codebook_diversity: Float[Tensor, ""]
    orthogonal_reg: Float[Tensor, ""]
    inplace_optimize: Float[Tensor, ""]


def weighted(out: Quantized, weight: float, learned: bool) -> Tensor:
    """weight × the commitment loss, with the gradient of the codebook loss too if learned.

    The peer's value counts the error once; its gradient moves both the vectors and the codes.
    """
    loss = weight * out.commitment_loss
    return loss + weight * (out.codebook_loss - out.codebook_loss.detach()) if learned else loss


def scores(quantizer: VectorQuantizer, z: Tensor, fixed: bool) -> Tensor:
    """What the peer calls distances: of z (..., d) to all codes (..., k), the nearest the largest.

    The negative distance; for unit vectors, the cosine.

    Args:
        quantizer: with the codes.
        z: vectors.
        fixed: give the codes no gradient.
    """
    codebook = quantizer.codebook
    # A copy, because a step may move the codes before the backward pass.
    e = codebook.embeddings.detach() if fixed else codebook.embeddings.clone()
    return codebook.project(z) @ e.T if codebook.metric == "cosine" else -distances(z, e)


def check_targets(indices: Tensor, shape: torch.Size, size: int) -> None:
    """Check the codes that a cross-entropy is to favor.

    Raises:
        UserError: indices have the wrong shape or dtype, or are outside [−1, size).
    """
    checked_indices(indices, size)
    if indices.shape != shape:
        raise UserError(
            f"indices: expected shape {tuple(shape)}, one for each vector; got "
            f"{tuple(indices.shape)}. Pass the indices that forward returned for such vectors."
        )


def cross_entropy(scores: Tensor, indices: Tensor) -> Tensor:
    """Cross-entropy of scores (..., k) and indices (...), −1 left out; 0 for none."""
    flat = scores.flatten(0, -2), indices.flatten()
    total = F.cross_entropy(*flat, ignore_index=-1, reduction="sum")
    return total / (indices >= 0).sum().clamp_min(1)


def diversity(scores: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    """The negative entropy of the mean soft choice of each position over the batch and heads.

    Args:
        scores: (b, ..., heads, k); (b, heads, k) has one position.
        temperature: what they are multiplied by.
        mask: (b, ...), False for vectors to leave out, and for positions without any other.
    """
    choice = (scores * temperature).softmax(-1)
    choice = choice.unsqueeze(1) if choice.ndim == 3 else choice.flatten(1, -3)
    kept = choice.new_ones(choice.shape[:2])
    if mask is not None:
        kept = (mask.unsqueeze(1) if mask.ndim == 1 else mask.flatten(1)).to(kept.dtype)
    number = kept.sum(0)
    share = torch.einsum("bn,bnhk->nk", kept, choice)
    share = share / (number * choice.shape[2]).clamp_min(1).unsqueeze(1)
    entropy = -(share * share.clamp_min(1e-5).log()).sum(-1)
    return -entropy.sum() / (number > 0).sum().clamp_min(1)


def orthogonality(codes: Tensor, most: int | None = None) -> Tensor:
    """Mean squared cosine of pairs of codes (k, d), 1/k less (arXiv 2112.00384, eq. 2).

    Args:
        codes: of which all have a gradient.
        most: number of codes to draw at random, if there are more.
    """
    if most is not None and len(codes) > most:
        codes = codes[torch.randperm(len(codes), device=codes.device)[:most]]
    if not len(codes):  # all vectors are masked
        return codes.sum()
    unit = F.normalize(codes, dim=1)
    k = len(unit)
    return (unit @ unit.T).square().sum() / k**2 - 1 / k
