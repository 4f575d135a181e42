"""The base class of quantizers made of others: residual, grouped and multi-scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.estimators import reflection
from rotvq.quantization.interface import Quantized, Quantizer
from rotvq.quantization.quantizer import VectorQuantizer


def check_residual(quantizer: VectorQuantizer, dropout: float) -> None:
    """Check that what a quantizer leaves over can be coded by others, with a dropout of those.

    Raises:
        UserError: its value is not the code, or the dropout is outside 0 to 1.
    """
    if quantizer.estimator is reflection:
        raise UserError(
            "estimator: expected one whose value is the code, because the next level codes the "
            "residual; got the reflection. Use the rotation."
        )
    if not 0 <= dropout <= 1:
        raise UserError(f"dropout: expected 0 to 1; got {dropout}.")


class Composite(Quantizer):
    """A quantizer made of others, each with its own index.

    Args:
        quantizers: one or more, with the same channel_dim and index_shape.

    Raises:
        UserError: no quantizer, or quantizers that differ in channel_dim or index_shape.
    """

    def __init__(self, quantizers: Sequence[Quantizer]) -> None:
        super().__init__()
        if not quantizers:
            raise UserError("quantizers: expected one or more; got none. Pass a list of them.")
        channel_dims = [q.channel_dim for q in quantizers]
        if len(set(channel_dims)) > 1:
            raise UserError(
                f"quantizers: expected the same channel_dim in all of them; got {channel_dims}. "
                "Set channel_dim when you build them."
            )
        shapes = {q.index_shape for q in quantizers}
        if len(shapes) > 1:
            raise UserError(
                "quantizers: expected the same index shape from all of them; got "
                f"{', '.join(map(str, sorted(shapes)))}. Give each the same number of levels."
            )
        self.quantizers = nn.ModuleList(quantizers)
        self.channel_dim = channel_dims[0]
        self.index_shape = (len(quantizers), *shapes.pop())

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return tuple(size for q in self._each() for size in q.codebook_sizes)

    @property
    def codebook(self) -> NoReturn:
        """Not available: use `codebooks`.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"codebook: expected a quantizer with a single codebook; got a {type(self).__name__} "
            f"of {len(self.quantizers)} quantizers, each with its own. Use `codebooks`, or the "
            "members of `quantizers`."
        )

    @property
    def defer_update(self) -> bool:
        """Whether all quantizers defer their updates. Setting it sets it for all of them."""
        return all(q.defer_update for q in self._each())

    @defer_update.setter
    def defer_update(self, value: bool) -> None:
        for quantizer in self._each():
            quantizer.defer_update = value

    def update_codebook(self) -> None:
        """Update every codebook with all vectors since its last step; a shared one once."""
        with one_step(self):
            for quantizer in self._each():
                quantizer.update_codebook()

    def _each(self) -> list[Quantizer]:
        return list(self.quantizers)  # type: ignore[arg-type]

    def _dims(self) -> list[int]:
        return [q.dim for q in self._each()]

    def _stack(self, indices: Sequence[Tensor]) -> Tensor:
        """The indices of all quantizers in one tensor."""
        return torch.stack(list(indices), -len(self.index_shape))

    def _unstack(self, indices: Tensor, fewest: int) -> tuple[Tensor, ...]:
        """The indices of each quantizer, of which there are at least `fewest`."""
        dim, most = -len(self.index_shape), len(self.quantizers)
        number = indices.shape[dim] if indices.ndim >= -dim else 0
        if not fewest <= number <= most:
            expected = f"{most}" if fewest == most else f"{fewest} to {most}"
            raise UserError(
                f"indices: expected {expected} in dimension {dim}, one for each quantizer; got "
                f"shape {tuple(indices.shape)}. Pass indices as `encode` returns them."
            )
        return indices.unbind(dim)

    def _combine(self, z_q: Tensor, parts: Sequence[Quantized]) -> Quantized:
        """The result for codes z_q, with the means of the losses."""
        losses = (
            torch.stack([getattr(part, name) for part in parts]).mean()
            for name in ("commitment_loss", "codebook_loss", "entropy_loss")
        )
        return Quantized(z_q, self._stack([part.indices for part in parts]), *losses)


@contextmanager
def one_step(quantizer: Quantizer) -> Iterator[None]:
    """Hold back the steps of all codebooks inside, then let each take at most one."""
    codebooks = [c for c in quantizer.codebooks if not c._held]
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
