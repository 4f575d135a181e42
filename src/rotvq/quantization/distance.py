"""Distances between vectors and codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.errors import UserError

_DISTANCES = 2**22
"""Distances in memory at a time while nearest codes are found."""


def distances(
    z: Float[Tensor, "..."], codes: Float[Tensor, "k d"], channel_dim: int = -1
) -> Float[Tensor, "... k"]:
    """Euclidean distance between every vector and every code.

    The smallest one belongs to the code that `nearest` finds. For n vectors the result takes
    memory for n·k numbers; `nearest` and `nearest_codes` do not need that much.

    Args:
        z: vectors, any floating dtype.
        codes: such as `quantizer.codebook.embeddings`, any floating dtype.
        channel_dim: the dimension of z that holds the d channels; 1 for the latents of a `VQVAE`.

    Returns:
        Float32, in z's shape with the channels replaced by a last dimension of k.

    Raises:
        UserError: z and codes differ in the number of channels.
    """
    _check(z, codes, channel_dim)
    vectors = z.movedim(channel_dim, -1)
    with torch.autocast(device_type=z.device.type, enabled=False):
        # The exact way, as ‖z‖² + ‖e‖² − 2z·e loses the digits of small distances.
        found = torch.cdist(
            vectors.float().flatten(0, -2) if z.ndim > 1 else vectors.float()[None],
            codes.float(),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
    return found.view(*vectors.shape[:-1], len(codes))


class NearestCodes(NamedTuple):
    """The nearest codes of each vector, nearest first.

    Args:
        indices: int64 in [0, k).
        distances: Euclidean, float32.
    """

    indices: Int64[Tensor, "... count"]
    distances: Float[Tensor, "... count"]


@torch.no_grad()
def nearest_codes(
    z: Float[Tensor, "..."], codes: Float[Tensor, "k d"], count: int, channel_dim: int = -1
) -> NearestCodes:
    """The nearest codes of each vector and their distances, in memory that does not grow with n·k.

    Args:
        z: vectors, such as the latents of `VQVAE.encode(x, return_latents=True)`, or a code.
        codes: as for `distances`.
        count: number of codes for each vector, 1 to k.
        channel_dim: as for `distances`.

    Returns:
        Indices and distances in z's shape with the channels replaced by a last dimension of
        `count`.

    Raises:
        UserError: as in `distances`, or a count outside 1 to k.

    Examples:
        >>> codes = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> nearest_codes(codes[0], codes, count=2)
        NearestCodes(indices=tensor([0, 2]), distances=tensor([0., 1.]))
    """
    if not 1 <= count <= len(codes):
        raise UserError(f"count: expected 1 to {len(codes)}; got {count}.")
    _check(z, codes, channel_dim)
    vectors = z.movedim(channel_dim, -1)
    rows = vectors.reshape(-1, vectors.shape[-1]).split(max(1, _DISTANCES // len(codes)))
    found = [distances(some, codes).topk(count, largest=False) for some in rows]
    values, indices = map(torch.cat, zip(*found, strict=True))
    shape = (*vectors.shape[:-1], count)
    return NearestCodes(indices.view(shape), values.view(shape))


def _check(z: Tensor, codes: Tensor, channel_dim: int) -> None:
    if z.ndim < 1 or codes.ndim != 2 or z.shape[channel_dim] != codes.shape[1]:
        raise UserError(
            f"distances: expected z with {codes.shape[-1]} channels at dimension {channel_dim} and "
            f"codes (k, d); got {tuple(z.shape)} and {tuple(codes.shape)}. Set channel_dim."
        )
