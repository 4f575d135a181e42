"""`RandomProjectionQuantizer`: targets for masked modeling, from random codes that never move."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rotvq.compat.vector_quantize import VectorQuantize


class RandomProjectionQuantizer(nn.Module):
    """Normalize, project at random, and look up the code with the largest cosine.

    Chiu et al. (arXiv 2202.01855).

    Args:
        dim: channels of the input.
        codebook_size: number of codes.
        codebook_dim: length of a code.
        num_codebooks: number of codes for each vector.
        norm: normalize the input to mean 0 and variance 1.
        others: arguments of `VectorQuantize`.
    """

    rand_projs: Tensor

    def __init__(
        self,
        *,
        dim: int,
        codebook_size: int,
        codebook_dim: int,
        num_codebooks: int = 1,
        norm: bool = True,
        **others: Any,
    ) -> None:
        super().__init__()
        projections = torch.empty(num_codebooks, dim, codebook_dim)
        self.register_buffer("rand_projs", nn.init.xavier_normal_(projections))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False) if norm else nn.Identity()
        self.vq = VectorQuantize(
            codebook_dim * num_codebooks,
            codebook_size,
            codebook_dim,
            heads=num_codebooks,
            separate_codebook_per_head=True,
            use_cosine_sim=True,
            **others,
        )

    def forward(
        self, x: Float[Tensor, "b n d"], indices: Int64[Tensor, "b n ..."] | None = None
    ) -> Tensor:
        """The indices, with a last dimension for several codebooks; or the cross-entropy of given
        ones, if they are passed."""
        projected = torch.einsum("bnd,hde->bnhe", self.norm(x), self.rand_projs).flatten(-2)
        self.vq.eval()
        return cast(Tensor, self.vq(projected, indices)[1])
