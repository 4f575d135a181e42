"""`SimVQ` and `ResidualSimVQ`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rotvq.compat._arguments import Refused, check
from rotvq.compat._residual import ResidualLayer
from rotvq.quantization import LinearMap, Quantized, ResidualQuantizer, VectorQuantizer

_REFUSED: Refused = {
    "codebook_transform": ((None,), "the linear map that this layer learns"),
    "frozen_codebook_dim": ((None,), "codes of the length of the vectors"),
}


class SimVQ(nn.Module):
    """A `rotvq.VectorQuantizer` with `LinearMap()`, as vector-quantize-pytorch calls it.

    Args:
        dim: channels of the input.
        codebook_size: number of codes.
        init_fn: maps the frozen normal basis (codebook_size, dim) to the one to use.
        channel_first: the input is (b, dim, ...).
        rotation_trick: rotate and rescale the gradient; False copies it straight through.
        input_to_quantize_commit_loss_weight: weight of the commitment loss, relative to that of
            the codebook loss.
        commitment_weight: weight of both.
        others: the other arguments of that layer, with values that request nothing unsupported.

    Raises:
        UserError: an argument requests something unsupported.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        init_fn: Callable[[Tensor], Tensor] | None = None,
        channel_first: bool = False,
        rotation_trick: bool = True,
        input_to_quantize_commit_loss_weight: float = 0.25,
        commitment_weight: float = 1.0,
        **others: Any,
    ) -> None:
        super().__init__()
        check("SimVQ", others, _REFUSED, set())
        self.quantizer = VectorQuantizer(
            codebook_size,
            dim,
            estimator="rotation" if rotation_trick else "straight_through",
            update=LinearMap(),
            channel_dim=1 if channel_first else -1,
        )
        basis = torch.randn(codebook_size, dim) * dim**-0.5
        self.quantizer.codebook.set_codes(init_fn(basis) if init_fn else basis)
        self.codebook_size = codebook_size
        self.input_to_quantize_commit_loss_weight = input_to_quantize_commit_loss_weight
        self.commitment_weight = commitment_weight

    def forward(
        self, x: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Int64[Tensor, "..."], Float[Tensor, ""]]:
        """The codes in the shape of x, their indices, and the weighted losses."""
        out = self.quantizer(x)
        return out.z_q, out.indices, self.loss(out)

    def loss(self, out: Quantized) -> Float[Tensor, ""]:
        """The weighted losses of a pass."""
        return self.commitment_weight * out.loss(self.input_to_quantize_commit_loss_weight)

    def indices_to_codes(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices."""
        return self.quantizer.lookup(indices)

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The codes."""
        return self.quantizer.codebook.embeddings


class ResidualSimVQ(ResidualLayer):
    """A `rotvq.ResidualQuantizer` of `SimVQ` layers.

    Args:
        dim: channels of the input.
        num_quantizers: number of levels.
        codebook_size: number of codes of a level.
        quantize_dropout: use a random number of levels in each training pass.
        quantize_dropout_cutoff_index: the least number of levels is one more.
        quantize_dropout_multiple_of: round the number of levels up to a multiple.
        channel_first: the input is (b, dim, ...).
        heads: 1.
        others: arguments of `SimVQ`.

    Raises:
        UserError: an argument requests something unsupported.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_quantizers: int,
        codebook_size: int,
        heads: int = 1,
        quantize_dropout: bool = False,
        quantize_dropout_cutoff_index: int = 0,
        quantize_dropout_multiple_of: int = 1,
        channel_first: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(
            num_quantizers,
            quantize_dropout,
            quantize_dropout_cutoff_index,
            quantize_dropout_multiple_of,
        )
        check("ResidualSimVQ", {"heads": heads}, {"heads": ((1,), "one layer a head")}, set())
        self.layers = nn.ModuleList(
            SimVQ(dim, codebook_size, channel_first=channel_first, **others)
            for _ in range(num_quantizers)
        )
        levels = [cast(SimVQ, layer).quantizer for layer in self.layers]
        self.quantizer = ResidualQuantizer(levels)
        self.codebook_size = codebook_size
        self.project_out = nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "..."],
        return_all_codes: bool = False,
        rand_quantize_dropout_fixed_seed: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Quantize.

        Returns:
            The sums of the codes in the shape of x; the indices (b, ..., q), −1 for levels that
            were left out; the losses (q,); and if asked for, the codes of each level.
        """
        number = self.number_of_levels(rand_quantize_dropout_fixed_seed, x.device)
        quantized, parts = self.quantizer.by_level(x, number=number)
        indices = self.stacked([part.indices for part in parts])
        first = cast(SimVQ, self.layers[0])
        result = (quantized, indices, self.padded([first.loss(part) for part in parts]))
        return (*result, self.get_codes_from_indices(indices)) if return_all_codes else result

    def level_codes(self, level: int, indices: Tensor) -> Tensor:
        """In the layout of x, unlike that of other residual layers."""
        return cast(SimVQ, self.layers[level]).indices_to_codes(indices)

    def get_output_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices."""
        return self.quantizer.lookup(indices)

    @property
    def codebooks(self) -> Float[Tensor, "q k d"]:
        """The codes of each level."""
        return torch.stack([cast(SimVQ, layer).codebook for layer in self.layers])
