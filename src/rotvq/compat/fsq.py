"""`FSQ`, `ResidualFSQ` and `GroupedResidualFSQ`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.compat._arguments import Refused, check
from rotvq.compat._layout import Codes
from rotvq.compat._residual import GroupedLayer, ResidualLayer, per_group
from rotvq.quantization import FiniteScalarQuantizer
from rotvq.quantization.estimators import straight_through
from rotvq.quantization.grid import Grid
from rotvq.quantization.tensors import added

_REFUSED: Refused = {
    "scale": ((None,), "a factor of your own: the codes lie in [-1, 1]"),
    "noise_dropout": ((0.0, 0), "0: the decoder must see codes"),
    "bound_hard_clamp": ((False,), "the tanh, or clamp z yourself"),
    "orthogonal_rotation": ((False,), "a linear layer of your own before and after"),
}
_WITHOUT_EFFECT = {"allowed_dtypes", "force_quantization_f32"}


class FSQ(Codes):
    """A `rotvq.FiniteScalarQuantizer` with the arguments and results of vector-quantize-pytorch.

    Args:
        levels: number of levels of each channel. In an index, the first channel varies fastest.
        dim: channels of the input, if linear layers are to project in and out.
        num_codebooks: number of codes for each vector.
        keep_num_codebooks_dim: whether indices have a dimension for the codebooks.
        channel_first: the input is (b, dim, ...), as it always is with four dimensions or more.
        projection_has_bias: whether the linear layers have one.
        return_indices: False returns None for them.
        preserve_symmetry: put an even number of levels symmetrically about 0 too.
        others: the other arguments of that layer, with values that request nothing unsupported.

    Raises:
        UserError: an argument requests something unsupported.
    """

    def __init__(
        self,
        levels: Sequence[int],
        dim: int | None = None,
        num_codebooks: int = 1,
        keep_num_codebooks_dim: bool | None = None,
        *,
        channel_first: bool = False,
        projection_has_bias: bool = True,
        return_indices: bool = True,
        preserve_symmetry: bool = False,
        **others: Any,
    ) -> None:
        check("FSQ", others, _REFUSED, _WITHOUT_EFFECT)
        super().__init__(
            len(levels), dim, num_codebooks, keep_num_codebooks_dim, channel_first or None
        )
        self.project(bias=projection_has_bias)
        # Ours counts with the last channel varying fastest, that one with the first.
        self.quantizer = FiniteScalarQuantizer(list(levels)[::-1], symmetric=preserve_symmetry)
        self.levels = tuple(levels)
        self.return_indices = return_indices

    def forward(
        self, z: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Int64[Tensor, "..."] | None]:
        """Quantize.

        Args:
            z: (b, n, dim), (b, dim, ...) with four dimensions or more, or channel_first.

        Returns:
            The codes in the shape of z, and their indices.
        """
        parts = self.split(z)
        out = self.quantizer(parts.flip(-1))
        quantized = self.join(out.z_q.flip(-1), z)
        return quantized, self.joined_indices(out.indices) if self.return_indices else None

    def codes(self, indices: Tensor) -> Tensor:
        return self.quantizer.lookup(indices).flip(-1)

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return self.quantizer.codebook_size

    @property
    def implicit_codebook(self) -> Float[Tensor, "k d"]:
        """All codes in the order of their indices."""
        return self.quantizer.codebook.embeddings.flip(-1)


class ResidualFSQ(ResidualLayer):
    """Grids of increasing resolution, each of which codes what the ones before it left over.

    Args:
        levels: number of levels of each channel.
        num_quantizers: number of grids; grid i is finer by a factor of levels to the power of i.
        dim: channels of the input; linear layers project if it is not the number of levels.
        is_channel_first: the input is (b, dim, ...).
        quantize_dropout: use a random number of levels in each training pass.
        quantize_dropout_cutoff_index: the least number of levels is one more.
        quantize_dropout_multiple_of: round the number of levels up to a multiple.
        others: the other arguments of that layer, with values that request nothing unsupported.

    Raises:
        UserError: an argument requests something unsupported.
    """

    counts: Tensor

    def __init__(
        self,
        *,
        levels: Sequence[int],
        num_quantizers: int,
        dim: int | None = None,
        is_channel_first: bool = False,
        quantize_dropout: bool = False,
        quantize_dropout_cutoff_index: int = 0,
        quantize_dropout_multiple_of: int = 1,
        **others: Any,
    ) -> None:
        super().__init__(
            num_quantizers,
            quantize_dropout,
            quantize_dropout_cutoff_index,
            quantize_dropout_multiple_of,
        )
        refused = {
            **_REFUSED,
            "soft_clamp_input_value": ((None,), "the bound of the levels"),
            "bound_hard_clamp": ((True,), "FSQ, whose bound is a tanh"),
        }
        check("ResidualFSQ", others, refused, {*_WITHOUT_EFFECT, "preserve_symmetry"})
        self.project(len(levels) if dim is None else dim, len(levels))
        self.levels = tuple(levels)
        self.grid = Grid(self.levels[::-1], symmetric=True)
        self.channel_dim = 1 if is_channel_first else -1
        self.register_buffer("counts", torch.tensor(self.levels), persistent=False)

    def forward(
        self,
        x: Float[Tensor, "..."],
        return_all_codes: bool = False,
        rand_quantize_dropout_fixed_seed: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Quantize.

        Returns:
            The sums of the codes in the shape of x; the indices (b, ..., q), −1 for grids that
            were left out; and if asked for, the codes of each grid (q, b, ..., len(levels)).
        """
        number = self.number_of_levels(rand_quantize_dropout_fixed_seed, x.device)
        z = self.project_in(x.movedim(self.channel_dim, -1))
        bound = 1 + 1 / (self.counts - 1)
        z = torch.tanh(z.float() / bound) * bound
        residual, indices, codes = z.detach(), [], []
        for level in range(number):
            steps = (residual / self._scale(level)).clamp(-1, 1).flip(-1) * self.grid.unit()
            indices.append(self.grid.index(steps))
            codes.append(self.level_codes(level, indices[-1]))
            residual = residual - codes[-1]
        quantized = straight_through(z, added(codes)).to(x.dtype)
        found = self.stacked(indices)
        result = (
            self.project_out(quantized).movedim(-1, self.channel_dim),
            found.movedim(-1, self.channel_dim),
        )
        return (*result, self.get_codes_from_indices(found)) if return_all_codes else result

    def level_codes(self, level: int, indices: Tensor) -> Tensor:
        codes = self.grid.codes(indices.clamp_min(0)).flip(-1) * self._scale(level)
        return codes.where((indices >= 0).unsqueeze(-1), 0.0)

    def get_output_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices, in its layout."""
        out = super().get_output_from_indices(indices.movedim(self.channel_dim, -1))
        return out.movedim(-1, self.channel_dim)

    def _scale(self, level: int) -> Tensor:
        return self.counts.float() ** -level

    @property
    def codebook_size(self) -> int:
        """Number of codes of a grid."""
        return len(self.grid)

    @property
    def codebooks(self) -> Float[Tensor, "q k d"]:
        """All codes of each grid, before they are scaled."""
        return self.grid.embeddings.flip(-1).expand(self.num_quantizers, -1, -1)


class GroupedResidualFSQ(GroupedLayer):
    """Groups of channels, each with a `ResidualFSQ` of its own.

    Args:
        dim: channels of the input.
        groups: number of groups.
        accept_image_fmap: the input is (b, dim, h, w).
        others: arguments of `ResidualFSQ`.

    Raises:
        UserError: the groups do not divide dim, or an argument is unsupported.
    """

    def __init__(
        self, *, dim: int, groups: int = 1, accept_image_fmap: bool = False, **others: Any
    ) -> None:
        others["is_channel_first"] = others.get("is_channel_first", False) or accept_image_fmap
        layers = [ResidualFSQ(dim=per_group(dim, groups), **others) for _ in range(groups)]
        super().__init__(layers, dim, layers[0].channel_dim)

    def get_output_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices, in its layout."""
        return torch.cat(self._of_each("get_output_from_indices", indices), self.split_dim)
