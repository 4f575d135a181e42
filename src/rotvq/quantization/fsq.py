"""Finite scalar quantization: each channel is rounded to a few levels; nothing is learned.

Symbols: z (…, d) encoder vectors; L (d,) the number of levels of each channel. The codes are the
Π L points of the grid, with each channel scaled to [-1, 1] (Mentzer et al., arXiv 2309.15505).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization.estimators import straight_through
from rotvq.quantization.grid import Grid, GridQuantizer
from rotvq.quantization.interface import Quantized
from rotvq.quantization.tensors import channels_at, channels_last


class FiniteScalarQuantizer(GridQuantizer):
    """Round each channel to one of a few levels; takes the place of a `VectorQuantizer`.

    A channel with L levels is bounded by a tanh, rounded, and scaled to [-1, 1]; the gradient
    passes the rounding straight through. Nothing is learned, so the losses are 0 (nan if z has a
    nan, so that it does not go unnoticed). Indices are computed in float32, whatever the dtype.

    An odd number of levels is symmetric; an even one from 4 on has one more level below 0 than
    above (appendix A.1 of the paper); two levels are -1 and 1 with the threshold at z = 0.

    Args:
        levels: number of levels of each channel, 2 or more: [8, 5, 5, 5] makes 1000 codes, [4] * 5
            makes 1024. Any number of codes below 2**63 works; no table of them is held.
        channel_dim: the dimension of z that holds the channels; 1 for (b, d, h, w).
        symmetric: put any number of levels symmetrically about 0 (Parker et al., arXiv 2411.19842,
            §3.2).

    Raises:
        UserError: no levels, a channel with fewer than 2, or 2**63 codes or more.

    Examples:
        >>> quantizer = FiniteScalarQuantizer([8, 5, 5, 5])
        >>> out = quantizer(torch.randn(2, 100, 4))
        >>> out.z_q.shape, out.indices.shape, len(quantizer.codebook)
        (torch.Size([2, 100, 4]), torch.Size([2, 100]), 1000)
    """

    def __init__(
        self, levels: Sequence[int], channel_dim: int = -1, symmetric: bool = False
    ) -> None:
        levels = [*levels]
        if not levels or not all(type(level) is int and level >= 2 for level in levels):
            raise UserError(
                f"levels: expected 2 or more for each channel, an int; got {levels}. Pass a list "
                "such as [8, 5, 5, 5]."
            )
        if math.prod(levels) >= 2**63:
            raise UserError(
                f"levels: expected fewer than 2**63 codes, because an index is an int64; got "
                f"{list(levels)}. Use a GroupedQuantizer of several grids."
            )
        super().__init__(Grid(levels, symmetric), channel_dim)
        self.levels = tuple(levels)

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments, result and errors as in `VectorQuantizer.forward`.

        A channel that is nan counts as the middle level; an infinite one as an outermost level.
        """
        z, kept = channels_last(z, mask, self.dim, self.channel_dim)
        if kept is not None:
            kept = kept.view(z.shape[:-1])
            z = z.where(kept.unsqueeze(-1), 0.0)
        steps = self.codebook.bound(z)
        indices = self.codebook.index(steps)
        codes = self.codebook.codes(indices)
        z_q = straight_through(steps / self.codebook.unit(), codes).to(z.dtype)
        if kept is not None:
            z_q = z_q.where(kept.unsqueeze(-1), 0.0)
            indices = indices.where(kept, -1)
        zero = 0 * steps.detach().sum()
        return Quantized(channels_at(z_q, self.channel_dim), indices, zero, zero, zero)

    def assigned(self, z: Float[Tensor, "..."], indices: Int64[Tensor, "..."]) -> Quantized:
        found = super().assigned(z, indices)
        zero = torch.zeros_like(found.entropy_loss)
        return replace(found, commitment_loss=zero, codebook_loss=zero)

    def _estimated(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        z, _ = channels_last(z, None, self.dim, self.channel_dim)
        return channels_at(self.codebook.bound(z) / self.codebook.unit(), self.channel_dim)

    def _indices(self, z: Tensor) -> Tensor:
        return self.codebook.index(self.codebook.bound(z))

    def extra_repr(self) -> str:
        return f"levels={list(self.levels)}, channel_dim={self.channel_dim}"
