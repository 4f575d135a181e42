"""`LatentQuantize`: each channel has a few learned values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.compat._arguments import Refused, check
from rotvq.compat._layout import Codes
from rotvq.errors import UserError
from rotvq.quantization import GradientLearned, GroupedQuantizer, VectorQuantizer
from rotvq.quantization.tensors import mean_square

_REFUSED: Refused = {
    "in_place_codebook_optimizer": ((None,), "your own optimizer"),
    "codebook_dim": ((-1,), "a list of levels"),
}


class LatentQuantize(Codes):
    """A `rotvq.GroupedQuantizer` of scalar codebooks (Hsu et al., arXiv 2305.18378).

    Args:
        levels: number of values of each channel. In an index, the first channel varies fastest.
        dim: channels of the input; linear layers project if they are not those of the codes.
        commitment_loss_weight: weight of the loss that moves the values.
        quantization_loss_weight: weight of the loss that moves the input.
        num_codebooks: number of codes for each vector.
        keep_num_codebooks_dim: whether indices have a dimension for the codebooks.
        optimize_values: False keeps the values where they start, evenly spaced in [-0.5, 0.5].
        others: the other arguments of that layer, with values that request nothing unsupported.

    Raises:
        UserError: an argument requests something unsupported.
    """

    def __init__(
        self,
        levels: Sequence[int] | int,
        dim: int,
        commitment_loss_weight: float | None = 0.1,
        quantization_loss_weight: float | None = 0.1,
        num_codebooks: int = 1,
        codebook_dim: int = -1,
        keep_num_codebooks_dim: bool | None = None,
        optimize_values: bool | None = True,
        **others: Any,
    ) -> None:
        if isinstance(levels, int):
            if codebook_dim < 1:
                raise UserError(
                    f"codebook_dim: expected 1 or more with one number of levels; got "
                    f"{codebook_dim}."
                )
            levels, codebook_dim = [levels] * codebook_dim, -1
        if codebook_dim == len(levels):
            codebook_dim = -1
        check("LatentQuantize", {**others, "codebook_dim": codebook_dim}, _REFUSED, set())
        super().__init__(len(levels), dim, num_codebooks, keep_num_codebooks_dim or None, True)
        self.project(bias=True)
        self.levels = tuple(levels)
        channels = [
            VectorQuantizer(n, 1, estimator="straight_through", update=GradientLearned())
            for n in self.levels
        ]
        for channel, n in zip(channels, self.levels, strict=True):
            low = torch.linspace(-0.5, 0.5, n) if n % 2 else torch.arange(n) / n - 0.5
            channel.codebook.set_codes(low.unsqueeze(1))
            channel.codebook.requires_grad_(bool(optimize_values))
        self.quantizer = GroupedQuantizer(channels)
        self.codebook_size = math.prod(self.levels)
        self.commitment_loss_weight = commitment_loss_weight or 0.0
        self.quantization_loss_weight = quantization_loss_weight or 0.0

    def forward(
        self, z: Float[Tensor, "b d ..."]
    ) -> tuple[Float[Tensor, "b d ..."], Int64[Tensor, "..."], Float[Tensor, ""]]:
        """Quantize.

        Args:
            z: (b, dim, ...).

        Returns:
            The codes in the shape of z, their indices, and the weighted losses between z and the
            codes, 0 in evaluation.
        """
        out = self.quantizer(self.split(z))
        quantized = self.join(out.z_q, z)
        loss = torch.zeros((), device=z.device)
        if self.training:
            # Of the values themselves: past a straight-through estimator, they have no gradient.
            values = self.join(self._chosen(out.indices), z)
            loss = self.commitment_loss_weight * mean_square(values, z.detach(), None)
            loss = loss + self.quantization_loss_weight * mean_square(z, values.detach(), None)
        return quantized, self.joined_indices((out.indices * self._stride(z)).sum(-1)), loss

    def codes(self, indices: Tensor) -> Tensor:
        counts = torch.tensor(self.levels, device=indices.device)
        places = indices.unsqueeze(-1) // self._stride(indices) % counts
        return self.quantizer.lookup(places)

    def _chosen(self, places: Tensor) -> Tensor:
        """As `quantizer.lookup`, with a gradient for the values."""
        channels = cast(list[VectorQuantizer], list(self.quantizer.quantizers))
        pairs = zip(places.unbind(-1), channels, strict=True)
        return torch.cat([F.embedding(i, channel.codebook.embeddings) for i, channel in pairs], -1)

    def _stride(self, like: Tensor) -> Tensor:
        stride = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
        return torch.tensor(stride, device=like.device)
