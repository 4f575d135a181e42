"""The peer's auxiliary losses, which need the scores of all codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization import Quantized, VectorQuantizer, distances
from rotvq.quantization.tensors import checked_indices


def weighted(out: Quantized, weight: float, learned: bool) -> Tensor:
    """weight × the commitment loss, with the gradient of the codebook loss too if learned.

    The peer's value counts the error once; its gradient moves both the vectors and the codes.
    """
    loss = weight * out.commitment_loss
    return loss + weight * (out.codebook_loss - out.codebook_loss.detach()) if learned else loss


def scores(quantizer: VectorQuantizer, z: Tensor) -> Tensor:
    """What the peer calls distances: of z (..., d) to all codes (..., k), the nearest the largest.

    The negative distance; for unit vectors, the cosine.
    """
    codebook = quantizer.codebook
    if codebook.metric == "cosine":
        return codebook.project(z) @ codebook.embeddings.T
    return -distances(z, codebook.embeddings)


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
    """Cross-entropy of scores (..., k) and indices (...), −1 left out."""
    return F.cross_entropy(scores.flatten(0, -2), indices.flatten(), ignore_index=-1)


def diversity(scores: Tensor, temperature: float) -> Tensor:
    """The negative entropy of the mean soft choice of each position over the batch."""
    share = (scores * temperature).softmax(-1).flatten(0, -3).mean(0)
    return (share * share.clamp_min(1e-5).log()).sum(-1).mean()


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
