"""Binary codes: the sign of each channel. Nothing is learned, and no code is looked up.

Symbols: z (…, d) encoder vectors; q = s·sign(z) their codes, of 2^d.
"""

from __future__ import annotations

from typing import get_args

from jaxtyping import Bool, Float
from torch import Tensor

from rotvq.errors import UserError
from rotvq.names import CodesName
from rotvq.quantization.entropy import binary_entropy_loss
from rotvq.quantization.estimators import Estimator, by_name
from rotvq.quantization.grid import Grid, GridQuantizer
from rotvq.quantization.interface import Quantized
from rotvq.quantization.metrics import Metric, cosine, euclidean
from rotvq.quantization.tensors import channels_at, channels_last, mean_square


class LookupFreeQuantizer(GridQuantizer):
    """Code each channel by its sign, as ±1 (LFQ; Yu et al., MAGVIT-v2, arXiv 2310.05737, §3.1).

    The first channel is the most significant bit of the index. Signs and losses are computed in
    float32, whatever the dtype.

    Args:
        dim: number of channels d, each a bit of the index; at most 62.
        estimator: how the gradient crosses: a name in `ESTIMATORS` or a function (z, q) -> q̃.
        entropy_loss: compute the entropy loss in training.
        temperature: τ of the entropy loss, above 0.
        group: number of bits that the entropy loss counts together (see `binary_entropy_loss`),
            which takes memory for n × 2^group numbers.
        channel_dim: the dimension of z that holds the channels; 1 for (b, d, h, w).

    Raises:
        UserError: an argument out of range.

    Examples:
        >>> quantizer = LookupFreeQuantizer(10)
        >>> out = quantizer(torch.randn(2, 100, 10))
        >>> out.z_q.shape, out.indices.shape, len(quantizer.codebook)
        (torch.Size([2, 100, 10]), torch.Size([2, 100]), 1024)
    """

    project: Metric = staticmethod(euclidean)
    """Maps z to where its signs are taken."""

    def __init__(
        self,
        dim: int,
        *,
        estimator: str | Estimator = "straight_through",
        entropy_loss: bool = True,
        temperature: float = 0.01,
        group: int = 8,
        channel_dim: int = -1,
    ) -> None:
        if not 1 <= dim <= 62:
            raise UserError(
                f"dim: expected 1 to 62 channels, because an index is an int64; got {dim}. Use a "
                "GroupedQuantizer of several."
            )
        if not 0 < temperature < float("inf"):
            raise UserError(f"temperature: expected a number above 0; got {temperature}.")
        if not 1 <= group <= 20:
            raise UserError(f"group: expected 1 to 20 bits; got {group}. 8 is a good start.")
        super().__init__(Grid([2] * dim, scale=self.scale_of(dim)), channel_dim)
        self.estimator = by_name(estimator) if isinstance(estimator, str) else estimator
        self.entropy_loss = entropy_loss
        self.temperature = temperature
        self.group = group

    @staticmethod
    def scale_of(dim: int) -> float:
        """s, the magnitude of each element of a code of `dim` bits."""
        return 1.0

    @property
    def scale(self) -> float:
        """s, the magnitude of each element of a code."""
        return self.codebook.scale

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize; arguments, result and errors as in `VectorQuantizer.forward`.

        A channel that is 0 or nan counts as negative. The entropy loss is that of
        `binary_entropy_loss`.
        """
        z, kept = channels_last(z, mask, self.dim, self.channel_dim)
        shape, dtype, z = z.shape[:-1], z.dtype, z.flatten(0, -2)
        if kept is not None:
            z = z.where(kept.unsqueeze(1), 0.0)
        indices = self._indices(z)
        z = self.project(z)
        codes = self.codebook.codes(indices)
        z_q = self.estimator(z, codes).to(dtype)
        commitment_loss = mean_square(z, codes, kept)
        entropy = commitment_loss.new_zeros(())
        if self.training and self.entropy_loss:
            entropy = binary_entropy_loss(z, self.scale, self.temperature, self.group, kept)
        if kept is not None:
            z_q = z_q.where(kept.unsqueeze(1), 0.0)
            indices = indices.where(kept, -1)
        z_q = channels_at(z_q.unflatten(0, shape), self.channel_dim)
        losses = (commitment_loss, commitment_loss.detach(), entropy)
        return Quantized(z_q, indices.unflatten(0, shape), *losses)

    def compared(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return channels_at(self.project(z.movedim(self.channel_dim, -1)), self.channel_dim)

    def _estimated(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.compared(z)

    def _indices(self, z: Tensor) -> Tensor:
        return ((self.project(z) > 0) * self.codebook.stride).sum(-1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, channel_dim={self.channel_dim}"


class BinarySphericalQuantizer(LookupFreeQuantizer):
    """Bring vectors to unit length, and code each channel by its sign, as ±1/√d (BSQ).

    Zhao et al. (arXiv 2406.07548, §4). Codes have unit length too, which bounds the error of
    quantization. Arguments and errors as in `LookupFreeQuantizer`.

    Examples:
        >>> quantizer = BinarySphericalQuantizer(16)
        >>> out = quantizer(torch.randn(2, 100, 16))
        >>> out.z_q.norm(dim=-1).allclose(torch.ones(2, 100))
        True
    """

    project = staticmethod(cosine)

    @staticmethod
    def scale_of(dim: int) -> float:
        return dim**-0.5


BINARY: dict[str, type[LookupFreeQuantizer]] = dict(
    zip(get_args(CodesName)[1:], (LookupFreeQuantizer, BinarySphericalQuantizer), strict=True)
)
"""Quantizers with binary codes, by their names in configurations and files."""
