"""Residual quantization: each quantizer codes what the ones before it left over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization._composite import Composite, check_residual, one_step
from rotvq.quantization.codebook import Codebook
from rotvq.quantization.interface import Quantized
from rotvq.quantization.processes import drawn
from rotvq.quantization.quantizer import VectorQuantizer
from rotvq.quantization.tensors import added, at_least_float32, channels_at, check_input


class ResidualQuantizer(Composite):
    """Quantize in levels, each of which codes the residual of the levels before; codes add up.

    The gradient crosses all levels in one step, by the first one's estimator between z and the sum
    of the codes, so it is that of a single quantizer whatever the number of levels. (Chained
    straight-through estimators would multiply it.) Also known as multi-stage vector quantization
    (Juang and Gray 1982; SoundStream, arXiv 2107.03312).

    Args:
        quantizers: `VectorQuantizer`s of the same dim and channel_dim, with any estimator whose
            value is the code (all but the reflection).
        dropout: in training, share of the images (the first dimension of z) that are coded with a
            random number of levels, each equally likely (quantizer dropout, SoundStream). The first
            levels alone then decode well. The others leave such an image out: index −1, and no
            effect on their codes.

    Raises:
        UserError: no quantizer, different dims, quantizers of another kind, or a dropout outside 0
            to 1.

    Examples:
        >>> quantizer = ResidualQuantizer([VectorQuantizer(64, 16) for _ in range(4)])
        >>> out = quantizer(torch.randn(2, 100, 16))
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([2, 100, 16]), torch.Size([2, 100, 4]))
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer], dropout: float = 0.0) -> None:
        quantizers = [*quantizers]
        for quantizer in quantizers:
            if not isinstance(quantizer, VectorQuantizer):
                raise UserError(
                    "quantizers: expected VectorQuantizers, whose codes adapt to the residual; got "
                    f"a {type(quantizer).__name__}. GroupedQuantizer takes any kind; instead of "
                    "several FiniteScalarQuantizers, use one with more levels."
                )
            check_residual(quantizer, dropout)
        super().__init__(quantizers)
        if len(set(self._dims())) > 1:
            raise UserError(
                f"quantizers: expected the same dim in all of them; got {self._dims()}. Each level "
                "codes all channels; to split the channels, use GroupedQuantizer."
            )
        self.dim = quantizers[0].dim
        self.dropout = dropout

    @property
    def residual_levels(self) -> int:
        return len(self.quantizers)

    @property
    def tables(self) -> tuple[Float[Tensor, "k d"], ...]:
        return tuple(table for quantizer in self._each() for table in quantizer.tables)

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments and errors as in `VectorQuantizer.forward`.

        Returns:
            As from a `VectorQuantizer`. `indices` has one more dimension at the end, for the
            levels; the losses are the means over the levels.
        """
        z_q, parts = self.by_level(z, mask)
        return self._combine(z_q, parts)

    def by_level(
        self,
        z: Float[Tensor, "..."],
        mask: Bool[Tensor, "..."] | None = None,
        number: int | None = None,
    ) -> tuple[Float[Tensor, "..."], list[Quantized]]:
        """The sum of the codes, with its gradient, and the result of each level.

        Args:
            z: as in `forward`.
            mask: as in `forward`.
            number: of levels, from the first; None for all.
        """
        check_input(z, mask, self.dim, self.channel_dim)
        dtype = z.dtype
        if mask is not None:
            z = z.where(mask.unsqueeze(self.channel_dim), 0.0)
        residual = at_least_float32(z)
        parts, codes = [], []
        with one_step(self):
            for quantizer, kept in zip(self._each()[:number], self._masks(z, mask), strict=False):
                parts.append(quantizer(residual, kept))
                codes.append(parts[-1].z_q.detach().float())
                residual = residual - codes[-1]
        estimator = cast(VectorQuantizer, self.quantizers[0]).estimator
        z_q = estimator(z.movedim(self.channel_dim, -1), added(codes).movedim(self.channel_dim, -1))
        return channels_at(z_q.to(dtype), self.channel_dim), parts

    def _masks(self, z: Tensor, mask: Tensor | None) -> list[Tensor | None]:
        """The vectors that each level codes; None for all."""
        levels = len(self.quantizers)
        if not (self.training and self.dropout):
            return [mask] * levels
        shape = z.movedim(self.channel_dim, -1).shape[:-1]
        share = drawn(shape[0], z.device) / self.dropout
        last = (share * levels).long().clamp_max(levels - 1).view(-1, *[1] * (len(shape) - 1))
        kept = [(last >= level).expand(shape) for level in range(1, levels)]
        return [mask, *(each if mask is None else each & mask for each in kept)]

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "... l"]:
        """The indices alone, one for each level in the last dimension."""
        check_input(z, mask, self.dim, self.channel_dim)
        residual = at_least_float32(z)
        indices = []
        for quantizer in self._each():
            indices.append(quantizer.encode(residual, mask))
            residual = residual - quantizer.lookup(indices[-1])
        return self._stack(indices)

    def lookup(self, indices: Int64[Tensor, "... l"]) -> Float[Tensor, "..."]:
        """The sums of the codes, float32; zeros for −1.

        Args:
            indices: of all levels, or of the first few: `indices[..., :2]` decodes to the
                approximation of the first two levels.

        Raises:
            UserError: indices of another dtype or number of levels, or out of range.
        """
        pairs = zip(self._each(), self._unstack(indices, fewest=1), strict=False)
        return added([quantizer.lookup(level) for quantizer, level in pairs])

    def compared(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """As the first level does."""
        return self._each()[0].compared(z)

    def initialize_codebook(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> None:
        """Place the codes by k-means, those of each level over the residual of z that it sees."""
        self.place(self.codebooks, z, mask)

    def place(
        self,
        codebooks: Iterable[Codebook],
        z: Float[Tensor, "..."],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> None:
        """As `initialize_codebook`, for some of the codebooks; each is placed once.

        Args:
            codebooks: of levels, which may share one.
            z: as in `forward`.
            mask: as in `forward`.
        """
        check_input(z, mask, self.dim, self.channel_dim)
        residual, left = at_least_float32(z), {*map(id, codebooks)}
        for quantizer in cast(list[VectorQuantizer], self._each()):
            if id(quantizer.codebook) in left:
                quantizer.initialize_codebook(residual, mask)
                left.remove(id(quantizer.codebook))
            residual = residual - quantizer.lookup(quantizer.encode(residual, mask))
