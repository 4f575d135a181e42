"""Finite scalar quantization: each channel is rounded to a few levels; nothing is learned.

Symbols: z (…, d) encoder vectors; L (d,) the number of levels of each channel. The codes are the
Π L points of the grid, with each channel scaled to [-1, 1] (Mentzer et al., arXiv 2309.15505).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.estimators import straight_through
from rotvq.quantization.interface import Quantized, Quantizer
from rotvq.quantization.tensors import channels_at, channels_last, checked_indices

_MARGIN = 1e-3
"""Relative margin of the bound beyond the outermost levels, which puts them within reach."""

_MOST_LISTED = 2**24
"""Number of codes up to which a grid lists them."""


class Grid(nn.Module):
    """The codes in the order of their indices: what a `Codebook` is to a `VectorQuantizer`.

    Args:
        levels: number of levels of each channel, 2 or more.
        symmetric: whether an even number of levels is symmetric about 0 too.
        scale: magnitude of the outermost levels.
    """

    counts: Tensor
    stride: Tensor
    ready = True

    def __init__(self, levels: Sequence[int], symmetric: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.symmetric = symmetric
        self.scale = scale
        self._hold()

    def __len__(self) -> int:
        return math.prod(self.levels)

    @property
    def embeddings(self) -> Float[Tensor, "k d"]:
        """All codes, float32.

        Raises:
            UserError: there are more than 2**24 codes.
        """
        if len(self) > _MOST_LISTED:
            raise UserError(
                f"codebook: expected at most {_MOST_LISTED:,} codes to list or count; got "
                f"{len(self):,}, of the levels {list(self.levels)}. Use fewer levels; only encode "
                "and lookup take any number of codes."
            )
        return self.codes(torch.arange(len(self), device=self.counts.device))

    def codes(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """The codes of indices in [0, k), float32. The last channel varies fastest."""
        places = indices.unsqueeze(-1) // self.stride % self.counts
        return (places / self.unit() - 1) * self.scale

    def bound(self, z: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """z bounded to the range of the levels, in steps from the middle; float32.

        The middle is level L // 2; if the levels are symmetric, (L - 1) / 2.
        """
        if self.symmetric:
            with torch.autocast(device_type=z.device.type, enabled=False):
                return torch.tanh(z.float()) * self.unit()
        counts = self.counts.float()
        reach = (counts - 1) * (1 + _MARGIN) / 2
        # An even number of levels is half a step off center (2309.15505, appendix A.1). For two
        # levels that would put the threshold at z = -3.8: it is at 0 instead.
        offset = (1 - counts % 2) / 2
        shift = torch.atanh(offset / reach).where(counts > 2, 0.0)
        with torch.autocast(device_type=z.device.type, enabled=False):
            return torch.tanh(z.float() + shift) * reach - offset

    def index(self, steps: Float[Tensor, "... d"]) -> Int64[Tensor, "..."]:
        """The index of the code nearest to a bounded vector; nan counts as the middle level."""
        steps = steps.nan_to_num(0.0)
        places = (
            (steps + self.unit()).round().long()
            if self.symmetric
            else steps.round().long() + self.counts // 2
        )
        # With a thousand levels or more, the margin of the bound is a level wide.
        places = places.clamp_min(0).minimum(self.counts - 1)
        return (places * self.stride).sum(-1)

    def unit(self) -> Float[Tensor, " d"]:
        """Number of steps from the lowest level to 0."""
        if self.symmetric:
            return (self.counts - 1) / 2
        return (self.counts // 2).float().where(self.counts > 2, 0.5)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Grid:
        """Follow the model to another device, and rebuild the levels there, exact in any dtype."""
        super()._apply(fn, recurse)
        self._hold(self.counts.device)
        return self

    def _hold(self, device: torch.device | None = None) -> None:
        """Hold the levels as integers, because a cast to half precision would round others."""
        stride = [math.prod(self.levels[i + 1 :]) for i in range(len(self.levels))]
        for name, values in (("counts", self.levels), ("stride", stride)):
            self.register_buffer(name, torch.tensor(values, device=device), persistent=False)


class FiniteScalarQuantizer(Quantizer):
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

    Example:
        >>> quantizer = FiniteScalarQuantizer([8, 5, 5, 5])
        >>> out = quantizer(torch.randn(2, 100, 4))
        >>> out.z_q.shape, out.indices.shape, len(quantizer.codebook)
        (torch.Size([2, 100, 4]), torch.Size([2, 100]), 1000)
    """

    def __init__(
        self, levels: Sequence[int], channel_dim: int = -1, symmetric: bool = False
    ) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise UserError(
                f"levels: expected 2 or more for each channel; got {list(levels)}. Pass a list "
                "such as [8, 5, 5, 5]."
            )
        if math.prod(levels) >= 2**63:
            raise UserError(
                f"levels: expected fewer than 2**63 codes, because an index is an int64; got "
                f"{list(levels)}. Use a GroupedQuantizer of several grids."
            )
        self.levels = tuple(levels)
        self.channel_dim = channel_dim
        self.codebook = Grid(levels, symmetric)
        self.dim = len(self.levels)
        self.defer_update = False

    @property
    def codebook_sizes(self) -> tuple[int]:
        return (len(self.codebook),)

    @property
    def tables(self) -> tuple[Float[Tensor, "k d"]]:
        return (self.codebook.embeddings,)

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

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "..."]:
        z, kept = channels_last(z, mask, self.dim, self.channel_dim)
        indices = self.codebook.index(self.codebook.bound(z))
        return indices if kept is None else indices.where(kept.view(indices.shape), -1)

    def lookup(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        valid = checked_indices(indices, len(self.codebook))
        codes = self.codebook.codes(indices.clamp_min(0)).where(valid.unsqueeze(-1), 0.0)
        return channels_at(codes, self.channel_dim)

    def initialize_codebook(self, z: Tensor, mask: Tensor | None = None) -> None:
        """Does nothing: the grid is fixed."""

    def update_codebook(self) -> None:
        """Does nothing: the grid is fixed."""

    def extra_repr(self) -> str:
        return f"levels={list(self.levels)}, channel_dim={self.channel_dim}"
