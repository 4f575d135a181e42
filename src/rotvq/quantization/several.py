"""Several quantizers at work on one vector: one after the other, or side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.codebook import Codebook
from rotvq.quantization.quantizer import Quantized, VectorQuantizer
from rotvq.quantization.tensors import channels_last


class _Several(nn.Module):
    """What both have in common."""

    def __init__(self, quantizers: Sequence[VectorQuantizer]) -> None:
        super().__init__()
        if not quantizers:
            raise UserError("quantizers: expected one or more; got none.")
        if len({q.channel_dim for q in quantizers}) > 1:
            raise UserError("quantizers: expected one channel_dim in all of them; got several.")
        self.quantizers = nn.ModuleList(quantizers)
        self.channel_dim = quantizers[0].channel_dim

    def update_codebook(self) -> None:
        """Take the step of every codebook: one, where several quantizers share it."""
        with _one_step(self):
            for quantizer in self._each():
                quantizer.update_codebook()

    def _each(self) -> list[VectorQuantizer]:
        return list(self.quantizers)  # type: ignore[arg-type]

    def _dims(self) -> list[int]:
        return [q.codebook.e.shape[1] for q in self._each()]

    def _split(self, indices: Tensor) -> tuple[Tensor, ...]:
        if indices.shape[-1] != len(self.quantizers):
            raise UserError(
                f"indices: expected {len(self.quantizers)} in the last dimension, one a quantizer; "
                f"got {tuple(indices.shape)}."
            )
        return indices.unbind(-1)


class ResidualQuantizer(_Several):
    """Each quantizer codes what the ones before it left over; their codes add up.

    The gradient crosses all of them in one step, by the first one's estimator between z and the
    sum: it is that of a single quantizer whatever their number. (Chained straight-through
    estimators would multiply it.) Cited as residual or multi-stage vector quantization (Juang and
    Gray 1982; SoundStream, arXiv 2107.03312).

    Args:
        quantizers: of one dim and channel_dim.

    Raises:
        UserError: no quantizer, or of several dims.

    Example:
        >>> quantizer = ResidualQuantizer([VectorQuantizer(64, 16) for _ in range(4)])
        >>> out = quantizer(torch.randn(2, 100, 16))
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([2, 100, 16]), torch.Size([2, 100, 4]))
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer]) -> None:
        super().__init__(quantizers)
        if len(set(self._dims())) > 1:
            raise UserError(f"quantizers: expected one dim in all of them; got {self._dims()}.")

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments and errors as of `VectorQuantizer`.

        Returns:
            As a `VectorQuantizer`, with a last dimension of `indices` for the quantizers and the
            means of their losses.
        """
        channels_last(z, mask, self._dims()[0], self.channel_dim)
        if mask is not None:
            z = z.where(mask.unsqueeze(self.channel_dim), 0.0)
        rest = z if z.dtype == torch.float64 else z.float()
        total = torch.zeros_like(rest)
        parts = []
        with _one_step(self):
            for quantizer in self._each():
                parts.append(quantizer(rest, mask))
                code = parts[-1].z_q.detach()
                rest, total = rest - code, total + code
        crossed = self._each()[0].estimator(
            z.movedim(self.channel_dim, -1), total.movedim(self.channel_dim, -1)
        )
        return _together(crossed.movedim(-1, self.channel_dim), parts)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "... l"]:
        """The indices alone, one a quantizer in the last dimension."""
        rest = z if z.dtype == torch.float64 else z.float()
        found = []
        for quantizer in self._each():
            found.append(quantizer.encode(rest, mask))
            rest = rest - quantizer.lookup(found[-1])
        return torch.stack(found, -1)

    def lookup(self, indices: Int64[Tensor, "... l"]) -> Float[Tensor, "..."]:
        """The sums of the codes, float32; zeros for −1.

        Raises:
            UserError: indices of another dtype, number or range.
        """
        pairs = zip(self._each(), self._split(indices), strict=True)
        codes = [quantizer.lookup(each) for quantizer, each in pairs]
        return torch.stack(codes).sum(0)


class GroupedQuantizer(_Several):
    """Each quantizer codes some of the channels (product quantization, Jégou et al. 2011).

    Args:
        quantizers: the sum of their dims is the number of channels; of one channel_dim.

    Raises:
        UserError: no quantizer.

    Example:
        >>> quantizer = GroupedQuantizer([VectorQuantizer(64, 8), VectorQuantizer(256, 24)])
        >>> out = quantizer(torch.randn(2, 100, 32))
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([2, 100, 32]), torch.Size([2, 100, 2]))
    """

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments, result and errors as of `ResidualQuantizer`."""
        pairs = zip(self._each(), self._groups(z), strict=True)
        with _one_step(self):
            parts = [q(each, mask) for q, each in pairs]
        return _together(torch.cat([part.z_q for part in parts], self.channel_dim), parts)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "... l"]:
        """The indices alone, one a quantizer in the last dimension."""
        pairs = zip(self._each(), self._groups(z), strict=True)
        return torch.stack([q.encode(each, mask) for q, each in pairs], -1)

    def lookup(self, indices: Int64[Tensor, "... l"]) -> Float[Tensor, "..."]:
        """The codes side by side, float32; zeros for −1. Errors as of `ResidualQuantizer`."""
        pairs = zip(self._each(), self._split(indices), strict=True)
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
            codebook.update()


def _together(z_q: Tensor, parts: Sequence[Quantized]) -> Quantized:
    losses = (
        torch.stack([getattr(part, name) for part in parts]).mean()
        for name in ("commitment_loss", "codebook_loss", "uneven_use")
    )
    return Quantized(z_q, torch.stack([part.indices for part in parts], -1), *losses)
