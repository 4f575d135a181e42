"""Finite scalar quantization: each channel rounded to a few levels, no codebook to learn or lose.

Symbols: z (…, d) encoder vectors; L (d,) the levels of each channel; the codes are all Π L points
of the grid, each channel scaled to [-1, 1] (Mentzer et al., arXiv 2309.15505).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.estimators import straight_through
from rotvq.quantization.quantizer import Quantized
from rotvq.quantization.tensors import channels_last, look_up

MARGIN = 1e-3
"""How far beyond the outermost levels the bound lies, as a share: they are within reach."""


class Grid(nn.Module):
    """The codes, in the order of their indices; what a `Codebook` is to a `VectorQuantizer`.

    Args:
        levels: of each channel, 2 or more.
    """

    e: Tensor
    ready = True

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        axes = [torch.arange(n, dtype=torch.float32) / (n // 2) - 1 for n in levels]
        e = torch.cartesian_prod(*axes).view(-1, len(levels))
        # It follows from the levels, so no file needs to hold it.
        self.register_buffer("e", e, persistent=False)

    def __len__(self) -> int:
        return self.e.shape[0]


class FiniteScalarQuantizer(nn.Module):
    """Round each channel to one of a few levels; in the place of a `VectorQuantizer`.

    A channel of L levels is bound by a tanh, rounded, and scaled to [-1, 1]; the gradient passes
    the rounding straight. There is nothing to commit to: both losses are 0.

    Args:
        levels: of each channel, 2 or more: [8, 5, 5, 5] makes 1000 codes, [4] * 5 makes 1024.
        channel_dim: the dimension of z that holds the channels; 1 for (b, d, h, w).

    Raises:
        UserError: no levels, or a channel of fewer than 2.

    Example:
        >>> quantizer = FiniteScalarQuantizer([8, 5, 5, 5])
        >>> out = quantizer(torch.randn(2, 100, 4))
        >>> out.z_q.shape, out.indices.shape, len(quantizer.codebook)
        (torch.Size([2, 100, 4]), torch.Size([2, 100]), 1000)
    """

    reach: Tensor
    offset: Tensor
    shift: Tensor
    middle: Tensor
    stride: Tensor

    def __init__(self, levels: Sequence[int], channel_dim: int = -1) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise UserError(f"levels: expected 2 or more for each channel; got {list(levels)}.")
        self.levels = tuple(levels)
        self.channel_dim = channel_dim
        self.codebook = Grid(levels)
        counts = torch.tensor(self.levels, dtype=torch.float32)
        # An even number of levels lies half a step off centre (2309.15505, appendix A.1).
        offset = (1 - counts % 2) / 2
        reach = (counts - 1) * (1 + MARGIN) / 2
        stride = [math.prod(self.levels[i + 1 :]) for i in range(len(self.levels))]
        for name, value in (
            ("reach", reach),
            ("offset", offset),
            ("shift", torch.atanh(offset / reach)),
            ("middle", counts // 2),
            ("stride", torch.tensor(stride)),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments, errors and result as those of `VectorQuantizer`."""
        z, kept = channels_last(z, mask, len(self.levels), self.channel_dim)
        steps = self._bound(z)
        indices = self._index(steps)
        codes = nn.functional.embedding(indices, self.codebook.e)
        z_q = straight_through(steps / self.middle, codes).to(z.dtype)
        if kept is not None:
            kept = kept.view(indices.shape)
            z_q = z_q.where(kept.unsqueeze(-1), 0.0)
            indices = indices.where(kept, -1)
        none = steps.new_zeros(())
        return Quantized(z_q.movedim(-1, self.channel_dim), indices, none, none, none)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "..."]:
        """The indices alone, in [0, k), −1 where masked. Arguments and errors as in `forward`."""
        z, kept = channels_last(z, mask, len(self.levels), self.channel_dim)
        indices = self._index(self._bound(z))
        return indices if kept is None else indices.where(kept.view(indices.shape), -1)

    def lookup(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Codes of indices, as `VectorQuantizer.lookup` gives them."""
        return look_up(indices, self.codebook.e, self.channel_dim)

    def initialize_codebook(self, z: Tensor, mask: Tensor | None = None) -> None:
        """Nothing: the grid is where it always is."""

    def update_codebook(self) -> None:
        """Nothing: the grid stays."""

    def extra_repr(self) -> str:
        return f"levels={list(self.levels)}, channel_dim={self.channel_dim}"

    def _bound(self, z: Tensor) -> Tensor:
        """z in units of steps, within reach of the outermost levels; float32."""
        with torch.autocast(device_type=z.device.type, enabled=False):
            return torch.tanh(z.float() + self.shift) * self.reach - self.offset

    def _index(self, steps: Tensor) -> Tensor:
        """Indices of the nearest points of the grid, the last channel counting fastest."""
        return ((steps.round() + self.middle).long() * self.stride).sum(-1)
