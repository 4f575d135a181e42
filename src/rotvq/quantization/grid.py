"""Codes on a grid: every combination of a few levels for each channel. No table holds them.

Symbols: z (…, d) encoder vectors; L (d,) the number of levels of each channel. The codes are the
Π L points of the grid, with each channel scaled to [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.interface import Quantizer
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


class GridQuantizer(Quantizer):
    """The base class of quantizers whose codes are a grid: nothing in them is learned.

    Args:
        grid: the codes.
        channel_dim: the dimension of z that holds the channels; 1 for (b, d, h, w).
    """

    def __init__(self, grid: Grid, channel_dim: int) -> None:
        super().__init__()
        self.codebook = grid
        self.dim = len(grid.levels)
        self.channel_dim = channel_dim
        self.defer_update = False

    @property
    def codebook_sizes(self) -> tuple[int]:
        return (len(self.codebook),)

    @property
    def tables(self) -> tuple[Float[Tensor, "k d"]]:
        return (self.codebook.embeddings,)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "..."]:
        z, kept = channels_last(z, mask, self.dim, self.channel_dim)
        indices = self._indices(z)
        return indices if kept is None else indices.where(kept.view(indices.shape), -1)

    def lookup(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        valid = checked_indices(indices, len(self.codebook))
        codes = self.codebook.codes(indices.clamp_min(0)).where(valid.unsqueeze(-1), 0.0)
        return channels_at(codes, self.channel_dim)

    def initialize_codebook(self, z: Tensor, mask: Tensor | None = None) -> None:
        """Does nothing: the grid is fixed."""

    def update_codebook(self) -> None:
        """Does nothing: the grid is fixed."""

    def _indices(self, z: Float[Tensor, "... d"]) -> Int64[Tensor, "..."]:
        raise NotImplementedError
