"""Grouped (product) quantization: each quantizer codes some of the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization._composite import Composite, one_step
from rotvq.quantization.interface import Quantized, Quantizer
from rotvq.quantization.multi_scale import MultiScaleQuantizer


class GroupedQuantizer(Composite):
    """Split the channels into groups and quantize each on its own (Jégou et al. 2011).

    Args:
        quantizers: of any kind, with the same channel_dim; residual ones with the same number of
            levels, of which quantizer dropout draws a number for each group. Their dims add up to
            the number of channels.

    Raises:
        UserError: no quantizer, or quantizers that differ in channel_dim or number of levels.

    Examples:
        >>> quantizer = GroupedQuantizer([VectorQuantizer(64, 8), VectorQuantizer(256, 24)])
        >>> out = quantizer(torch.randn(2, 100, 32))
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([2, 100, 32]), torch.Size([2, 100, 2]))
    """

    def __init__(self, quantizers: Sequence[Quantizer]) -> None:
        quantizers = [*quantizers]
        if any(isinstance(quantizer, MultiScaleQuantizer) for quantizer in quantizers):
            raise UserError(
                "quantizers: expected ones with a token for each vector; got a "
                "MultiScaleQuantizer. Use ResidualQuantizers in groups."
            )
        super().__init__(quantizers)
        self.dim = sum(self._dims())

    @property
    def residual_levels(self) -> int:
        return self._each()[0].residual_levels

    @property
    def tables(self) -> tuple[Float[Tensor, "k d"], ...]:
        found, before = [], 0
        for quantizer in self._each():
            after = self.dim - before - quantizer.dim
            found += [F.pad(table, (before, after)) for table in quantizer.tables]
            before += quantizer.dim
        return tuple(found)

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments and errors as in `VectorQuantizer.forward`.

        Returns:
            As from a `VectorQuantizer`. `indices` has one more dimension for the groups, before
            that of the levels of residual quantizers; the losses are the means over the groups.
        """
        with one_step(self):
            parts = [quantizer(group, mask) for quantizer, group in self._groups(z)]
        return self._combine(torch.cat([part.z_q for part in parts], self.channel_dim), parts)

    def assigned(self, z: Float[Tensor, "..."], indices: Int64[Tensor, "... l"]) -> Quantized:
        rows = self._unstack(indices, fewest=len(self.quantizers))
        pairs = zip(self._groups(z), rows, strict=True)
        parts = [quantizer.assigned(group, own) for (quantizer, group), own in pairs]
        return self._combine(torch.cat([part.z_q for part in parts], self.channel_dim), parts)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "... l"]:
        """The indices alone, in the shape that `forward` returns."""
        return self._stack([quantizer.encode(group, mask) for quantizer, group in self._groups(z)])

    def lookup(self, indices: Int64[Tensor, "... l"]) -> Float[Tensor, "..."]:
        """The codes side by side, float32; zeros for −1.

        Raises:
            UserError: indices of another dtype or number of groups, or out of range.
        """
        parts = self._unstack(indices, fewest=len(self.quantizers))
        codes = [quantizer.lookup(i) for quantizer, i in zip(self._each(), parts, strict=True)]
        return torch.cat(codes, self.channel_dim)

    def compared(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.cat([q.compared(group) for q, group in self._groups(z)], self.channel_dim)

    def initialize_codebook(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> None:
        """Place the codes by k-means, those of each quantizer over its channels of z."""
        for quantizer, group in self._groups(z):
            quantizer.initialize_codebook(group, mask)

    def _groups(self, z: Tensor) -> list[tuple[Quantizer, Tensor]]:
        dims = self._dims()
        inside = -z.ndim <= self.channel_dim < z.ndim
        if not inside or z.shape[self.channel_dim] != self.dim:
            raise UserError(
                f"z: expected {self.dim} channels at dimension {self.channel_dim}, the sum of the "
                f"dims {dims}; got shape {tuple(z.shape)}. Match the dims of the quantizers."
            )
        return list(zip(self._each(), z.split(dims, self.channel_dim), strict=True))
