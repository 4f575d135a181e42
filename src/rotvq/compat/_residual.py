"""What the peer's residual layers share: quantizer dropout, and codes of some levels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.processes import of_each
from rotvq.quantization.tensors import added


class ResidualLayer(nn.Module):
    """A layer of several levels, each of which codes what the ones before it left over.

    Args:
        num_quantizers: number of levels.
        quantize_dropout: use a random number of levels in each training pass.
        quantize_dropout_cutoff_index: the least number of levels is one more.
        quantize_dropout_multiple_of: round the number of levels up to a multiple.

    Raises:
        UserError: no levels, or a cutoff outside them.
    """

    project_in: nn.Module
    project_out: nn.Module

    def __init__(
        self,
        num_quantizers: int,
        quantize_dropout: bool,
        quantize_dropout_cutoff_index: int,
        quantize_dropout_multiple_of: int,
    ) -> None:
        super().__init__()
        if num_quantizers < 1 or not 0 <= quantize_dropout_cutoff_index < num_quantizers:
            raise UserError(
                "quantize_dropout_cutoff_index: expected 0 to below num_quantizers; got "
                f"{quantize_dropout_cutoff_index} with {num_quantizers}."
            )
        self.num_quantizers = num_quantizers
        self.quantize_dropout = quantize_dropout and num_quantizers > 1
        self.quantize_dropout_cutoff_index = quantize_dropout_cutoff_index
        self.quantize_dropout_multiple_of = quantize_dropout_multiple_of

    def project(self, dim: int, width: int) -> None:
        """Linear layers from dim to width channels and back, if they differ."""
        projects = dim != width
        self.project_in = nn.Linear(dim, width) if projects else nn.Identity()
        self.project_out = nn.Linear(width, dim) if projects else nn.Identity()

    def number_of_levels(self, seed: int | None, device: torch.device) -> int:
        """How many levels this pass uses; the same in all processes."""
        if not (self.training and self.quantize_dropout):
            return self.num_quantizers
        if seed is None:
            # Of the first process, because all must update the same codebooks.
            seed = int(of_each(torch.randint(2**31, (), device=device))[0])
        low, multiple = self.quantize_dropout_cutoff_index, self.quantize_dropout_multiple_of
        number = random.Random(seed).randrange(low, self.num_quantizers) + 1
        return min(-(-number // multiple) * multiple, self.num_quantizers)

    def stacked(self, indices: Sequence[Tensor]) -> Tensor:
        """Indices of all levels in the last dimension, −1 for those that were left out."""
        found = torch.stack(list(indices), -1)
        return F.pad(found, (0, self.num_quantizers - len(indices)), value=-1)

    def padded(self, losses: Sequence[Tensor]) -> Tensor:
        """Losses of all levels, 0 for those that were left out."""
        return F.pad(torch.stack(list(losses)), (0, self.num_quantizers - len(losses)))

    def level_codes(self, level: int, indices: Tensor) -> Tensor:
        """The codes (..., d) of the indices of one level, zeros for −1."""
        raise NotImplementedError

    def completed(self, indices: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
        """Indices of all levels, −1 for those that were not passed.

        Raises:
            UserError: more indices than levels.
        """
        if indices.shape[-1] > self.num_quantizers:
            raise UserError(
                f"indices: expected at most {self.num_quantizers} in the last dimension, one for "
                f"each level; got {indices.shape[-1]}."
            )
        return F.pad(indices, (0, self.num_quantizers - indices.shape[-1]), value=-1)

    def get_codes_from_indices(self, indices: Int64[Tensor, "b *n q"]) -> Float[Tensor, "q b *n d"]:
        """The codes of each level, channels last; zeros for −1 and for levels not passed.

        Raises:
            UserError: more indices than levels.
        """
        levels = enumerate(self.completed(indices).unbind(-1))
        return torch.stack([self.level_codes(*pair) for pair in levels])

    def get_output_from_indices(self, indices: Int64[Tensor, "b *n q"]) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices, channels last."""
        codes = added(self.get_codes_from_indices(indices).unbind(0))
        dtype = next((p.dtype for p in self.project_out.parameters()), codes.dtype)
        out: Tensor = self.project_out(codes.to(dtype))
        return out.where((indices >= 0).any(-1, keepdim=True), 0.0)


class GroupedLayer(nn.Module):
    """Groups of channels, each with a residual layer of its own.

    Args:
        layers: one for each group.
        dim: number of channels.
        channel_dim: the dimension that holds them.
    """

    def __init__(self, layers: Sequence[ResidualLayer], dim: int, channel_dim: int) -> None:
        super().__init__()
        self.dim, self.groups, self.split_dim = dim, len(layers), channel_dim
        self.rvqs = nn.ModuleList(layers)

    def forward(
        self, x: Float[Tensor, "..."], *inputs: object, **arguments: object
    ) -> tuple[Tensor, ...]:
        """As each layer; indices, losses and codes have a first dimension for the groups."""
        if x.shape[self.split_dim] != self.dim:
            raise UserError(
                f"x: expected {self.dim} channels at dimension {self.split_dim}; got shape "
                f"{tuple(x.shape)}."
            )
        if self.training:
            seed = of_each(torch.randint(2**31, (), device=x.device))[0]
            arguments["rand_quantize_dropout_fixed_seed"] = int(seed)
        parts = x.chunk(self.groups, self.split_dim)
        pairs = zip(self.rvqs, parts, strict=True)
        results = [rvq(part, *inputs, **arguments) for rvq, part in pairs]
        quantized, *others = zip(*results, strict=True)
        return torch.cat(quantized, self.split_dim), *(torch.stack(other) for other in others)

    def get_codes_from_indices(self, indices: Int64[Tensor, "g b *n q"]) -> Float[Tensor, "..."]:
        """As those of each layer, with a first dimension for the groups."""
        return torch.stack(self._of_each("get_codes_from_indices", indices))

    def get_output_from_indices(self, indices: Int64[Tensor, "g b *n q"]) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices, channels last."""
        return torch.cat(self._of_each("get_output_from_indices", indices), -1)

    @property
    def codebooks(self) -> Float[Tensor, "g q k d"]:
        """The codes of all levels of all groups."""
        return torch.stack([cast(Any, rvq).codebooks for rvq in self.rvqs])

    def _of_each(self, method: str, indices: Tensor) -> list[Tensor]:
        pairs = zip(self.rvqs, indices.unbind(0), strict=True)
        return [getattr(rvq, method)(own) for rvq, own in pairs]


def per_group(dim: int, groups: int) -> int:
    """Channels of each group.

    Raises:
        UserError: the groups do not divide dim.
    """
    if groups < 1 or dim % groups:
        raise UserError(f"groups: expected a divisor of dim {dim}; got {groups}.")
    return dim // groups
