"""Distances between vectors and codes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from rotvq.errors import UserError


def distances(
    z: Float[Tensor, "..."], codes: Float[Tensor, "k d"], channel_dim: int = -1
) -> Float[Tensor, "... k"]:
    """Euclidean distance between every vector and every code.

    The smallest one belongs to the code that `nearest` finds. For n vectors the result takes
    memory for n·k numbers; `nearest` does not need that much.

    Args:
        z: vectors, any floating dtype.
        codes: such as `quantizer.codebook.embeddings`, any floating dtype.
        channel_dim: the dimension of z that holds the d channels; 1 for the latents of a `VQVAE`.

    Returns:
        Float32, in z's shape with the channels replaced by a last dimension of k.

    Raises:
        UserError: z and codes differ in the number of channels.
    """
    if z.ndim < 1 or codes.ndim != 2 or z.shape[channel_dim] != codes.shape[1]:
        raise UserError(
            f"distances: expected z with {codes.shape[-1]} channels at dimension {channel_dim} and "
            f"codes (k, d); got {tuple(z.shape)} and {tuple(codes.shape)}. Set channel_dim."
        )
    vectors = z.movedim(channel_dim, -1)
    with torch.autocast(device_type=z.device.type, enabled=False):
        # The exact way, as ‖z‖² + ‖e‖² − 2z·e loses the digits of small distances.
        found = torch.cdist(
            vectors.float().flatten(0, -2) if z.ndim > 1 else vectors.float()[None],
            codes.float(),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
    return found.view(*vectors.shape[:-1], len(codes))
