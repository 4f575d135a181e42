"""Several quantizers at work on one vector: one after the other, or side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.codebook import Codebook
from rotvq.quantization.estimators import reflection
from rotvq.quantization.fsq import FiniteScalarQuantizer
from rotvq.quantization.quantizer import Quantized, VectorQuantizer
from rotvq.quantization.tensors import channels_at, channels_last

Single = VectorQuantizer | FiniteScalarQuantizer


class _Several(nn.Module):
    """What both have in common.

    Attributes:
        dim: channels of z.
        index_shape: the dimensions of the indices of one vector.
    """

    dim: int
    channel_dim: int

    def __init__(self, quantizers: Sequence[Single | _Several]) -> None:
        super().__init__()
        if not quantizers:
            raise UserError("quantizers: expected one or more; got none.")
        if len({q.channel_dim for q in quantizers}) > 1:
            raise UserError("quantizers: expected one channel_dim in all of them; got several.")
        inner = {q.index_shape for q in quantizers}
        if len(inner) > 1:
            raise UserError(
                "quantizers: expected indices of one shape from all of them; got "
                f"{', '.join(map(str, sorted(inner)))}. Give each as many levels."
            )
        self.quantizers = nn.ModuleList(quantizers)
        self.channel_dim = quantizers[0].channel_dim
        self.index_shape: tuple[int, ...] = (len(quantizers), *inner.pop())

    @property
    def codebook(self) -> NoReturn:
        """There is not one.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"codebook: expected a quantizer with one codebook; a {type(self).__name__} of "
            f"{len(self.quantizers)} has one in each of its quantizers. Token files, evaluation "
            "and rotvq train take models with one codebook; VQVAE's forward, encode, decode and "
            "save_pretrained take any."
        )

    def update_codebook(self) -> None:
        """Take the step of every codebook: one, where several quantizers share it."""
        with _one_step(self):
            for quantizer in self._each():
                quantizer.update_codebook()

    def _each(self) -> list[VectorQuantizer]:
        return list(self.quantizers)  # type: ignore[arg-type]

    def _dims(self) -> list[int]:
        return [q.dim for q in self._each()]

    def _stack(self, indices: Sequence[Tensor]) -> Tensor:
        """Indices of each quantizer, in their common tensor."""
        return torch.stack(list(indices), -len(self.index_shape))

    def _split(self, indices: Tensor, fewest: int) -> tuple[Tensor, ...]:
        """Indices by quantizer, of at least so many of them."""
        place = -len(self.index_shape)
        number = indices.shape[place] if indices.ndim >= -place else 0
        if not fewest <= number <= len(self.quantizers):
            raise UserError(
                f"indices: expected {len(self.quantizers)} in dimension {place}, one a quantizer"
                f"{'' if fewest > 1 else ', or fewer'}; got {tuple(indices.shape)}."
            )
        return indices.unbind(place)

    def _together(self, z_q: Tensor, parts: Sequence[Quantized]) -> Quantized:
        losses = (
            torch.stack([getattr(part, name) for part in parts]).mean()
            for name in ("commitment_loss", "codebook_loss", "entropy_loss")
        )
        return Quantized(z_q, self._stack([part.indices for part in parts]), *losses)


class ResidualQuantizer(_Several):
    """Each quantizer codes what the ones before it left over; their codes add up.

    The gradient crosses all of them in one step, by the first one's estimator between z and the
    sum: it is that of a single quantizer whatever their number. (Chained straight-through
    estimators would multiply it.) Cited as residual or multi-stage vector quantization (Juang and
    Gray 1982; SoundStream, arXiv 2107.03312).

    Args:
        quantizers: `VectorQuantizer`s of one dim and channel_dim, with an estimator whose value is
            the code: any but the reflection.

    Raises:
        UserError: no quantizer, of several dims, or of another kind.

    Example:
        >>> quantizer = ResidualQuantizer([VectorQuantizer(64, 16) for _ in range(4)])
        >>> out = quantizer(torch.randn(2, 100, 16))
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([2, 100, 16]), torch.Size([2, 100, 4]))
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer]) -> None:
        for quantizer in quantizers:
            if not isinstance(quantizer, VectorQuantizer):
                raise UserError(
                    "quantizers: expected VectorQuantizers, whose codes adapt to what is left over;"
                    f" got a {type(quantizer).__name__}. GroupedQuantizer takes any kind; of "
                    "FiniteScalarQuantizer, use one with more levels."
                )
            if quantizer.estimator is reflection:
                raise UserError(
                    "estimator: expected one whose value is the code, as the next quantizer codes "
                    "what it leaves over; got the reflection. Use the rotation."
                )
        super().__init__(quantizers)
        if len(set(self._dims())) > 1:
            raise UserError(f"quantizers: expected one dim in all of them; got {self._dims()}.")
        self.dim = quantizers[0].dim

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments and errors as of `VectorQuantizer`.

        Returns:
            As a `VectorQuantizer`, with a last dimension of `indices` for the quantizers and the
            means of their losses.
        """
        channels_last(z, mask, self.dim, self.channel_dim)
        if mask is not None:
            z = z.where(mask.unsqueeze(self.channel_dim), 0.0)
        rest = z if z.dtype == torch.float64 else z.float()
        parts, codes = [], []
        with _one_step(self):
            for quantizer in self._each():
                parts.append(quantizer(rest, mask))
                codes.append(parts[-1].z_q.detach().float())
                rest = rest - codes[-1]
        crossed = self._each()[0].estimator(
            z.movedim(self.channel_dim, -1), _added(codes).movedim(self.channel_dim, -1)
        )
        return self._together(channels_at(crossed, self.channel_dim), parts)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "... l"]:
        """The indices alone, one a quantizer in the last dimension."""
        rest = z if z.dtype == torch.float64 else z.float()
        found = []
        for quantizer in self._each():
            found.append(quantizer.encode(rest, mask))
            rest = rest - quantizer.lookup(found[-1])
        return self._stack(found)

    def initialize_codebook(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> None:
        """Place the codes by k-means over z, each quantizer's over what is left."""
        rest = z if z.dtype == torch.float64 else z.float()
        for quantizer in self._each():
            quantizer.initialize_codebook(rest, mask)
            rest = rest - quantizer.lookup(quantizer.encode(rest, mask))

    def lookup(self, indices: Int64[Tensor, "... l"]) -> Float[Tensor, "..."]:
        """The sums of the codes, float32; zeros for −1.

        Args:
            indices: of all quantizers, or of the first few: `indices[..., :2]` decodes to what
                two of them made of z.

        Raises:
            UserError: indices of another dtype, number or range.
        """
        pairs = zip(self._each(), self._split(indices, fewest=1), strict=False)
        return _added([quantizer.lookup(each) for quantizer, each in pairs])


class GroupedQuantizer(_Several):
    """Each quantizer codes some of the channels (product quantization, Jégou et al. 2011).

    Args:
        quantizers: of any kind and one channel_dim; residual ones of as many levels each. The sum
            of their dims is the number of channels.

    Raises:
        UserError: no quantizer, or residual ones of different numbers of levels.

    Example:
        >>> quantizer = GroupedQuantizer([VectorQuantizer(64, 8), VectorQuantizer(256, 24)])
        >>> out = quantizer(torch.randn(2, 100, 32))
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([2, 100, 32]), torch.Size([2, 100, 2]))
    """

    def __init__(self, quantizers: Sequence[Single | _Several]) -> None:
        super().__init__(quantizers)
        self.dim = sum(self._dims())

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments, result and errors as of `ResidualQuantizer`.

        The indices have a dimension for the groups, before that for the levels of residual ones.
        """
        pairs = zip(self._each(), self._groups(z), strict=True)
        with _one_step(self):
            parts = [q(each, mask) for q, each in pairs]
        z_q = torch.cat([part.z_q for part in parts], self.channel_dim)
        return self._together(z_q, parts)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "... l"]:
        """The indices alone, in the shape that `forward` gives them."""
        pairs = zip(self._each(), self._groups(z), strict=True)
        return self._stack([q.encode(each, mask) for q, each in pairs])

    def initialize_codebook(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> None:
        """Place the codes by k-means over z, each quantizer's over its channels."""
        for quantizer, each in zip(self._each(), self._groups(z), strict=True):
            quantizer.initialize_codebook(each, mask)

    def lookup(self, indices: Int64[Tensor, "... l"]) -> Float[Tensor, "..."]:
        """The codes side by side, float32; zeros for −1. Errors as of `ResidualQuantizer`."""
        parts = self._split(indices, fewest=len(self.quantizers))
        pairs = zip(self._each(), parts, strict=True)
        return torch.cat([q.lookup(each) for q, each in pairs], self.channel_dim)

    def _groups(self, z: Tensor) -> tuple[Tensor, ...]:
        dims = self._dims()
        if z.ndim < 1 or z.shape[self.channel_dim] != sum(dims):
            raise UserError(
                f"z: expected {sum(dims)} channels, the sum of {dims}; got {tuple(z.shape)}."
            )
        return z.split(dims, self.channel_dim)


@contextmanager
def _one_step(module: nn.Module) -> Iterator[None]:
    """Let codebooks within a module wait with `update`, and take one step each at the end."""
    codebooks = [c for c in module.modules() if isinstance(c, Codebook) and not c._held]
    for codebook in codebooks:
        codebook._held, codebook._owed = True, False
    try:
        yield
    finally:
        for codebook in codebooks:
            codebook._held = False
    for codebook in codebooks:
        if codebook._owed:
            codebook.step()


def _added(codes: Sequence[Tensor]) -> Tensor:
    """The sum of the levels' codes, in their order and layout: encoding adds the same bits."""
    return sum(codes[1:], codes[0])
