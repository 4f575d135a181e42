"""Multi-scale residual quantization: maps of rising resolution, of one codebook, that add up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization._composite import one_step
from rotvq.quantization.codebook import Codebook
from rotvq.quantization.estimators import reflection
from rotvq.quantization.interface import Quantized, Quantizer
from rotvq.quantization.processes import drawn
from rotvq.quantization.quantizer import VectorQuantizer
from rotvq.quantization.scales import Phi, enlarged, gathered, positions, reduced, spread
from rotvq.quantization.tensors import channels_last, exporting, whole_precision
from rotvq.scales import LARGEST


class MultiScaleQuantizer(Quantizer):
    """Quantize in maps of rising resolution, each of which codes the residual of those before.

    The quantizer of VAR (Tian et al., arXiv 2404.02905, algorithms 1 and 2): for each scale, the
    residual is averaged over areas, its vectors are replaced by codes, and the map of codes is
    enlarged, corrected by a convolution φ, and added. All scales share one codebook. The gradient
    crosses in one step, by the estimator between z and the sum, as in a `ResidualQuantizer`. φ
    learns by the codebook loss. (Learning from the decoder, too, did not lower the error.)

    Scales are relative to the last one, which has a token for every position: with scales 1, 2, 4
    and 8, an 8×8 grid has maps of 1×1, 2×2, 4×4 and 8×8 tokens, a 16×24 grid maps of 2×3, 4×6, 8×12
    and 16×24. So a token covers the same area in images of any size.

    Args:
        quantizer: a `VectorQuantizer` with channel_dim=1, the Euclidean metric and any estimator
            whose value is the code (all but the reflection).
        scales: increasing integers.
        dropout: in training, share of the images that are coded with a random number of scales; as
            in a `ResidualQuantizer`.

    Raises:
        UserError: a quantizer of another kind, scales that do not increase, or a dropout outside
            0 to 1.

    Example:
        >>> quantizer = MultiScaleQuantizer(VectorQuantizer(64, 16, channel_dim=1), (1, 2, 4, 8))
        >>> out = quantizer(torch.randn(2, 16, 8, 8))
        >>> out.z_q.shape, out.indices.shape, (out.indices >= 0).sum() // 2
        (torch.Size([2, 16, 8, 8]), torch.Size([2, 8, 8, 4]), tensor(85))
    """

    channel_dim = 1

    def __init__(
        self, quantizer: VectorQuantizer, scales: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not isinstance(quantizer, VectorQuantizer) or quantizer.channel_dim != 1:
            raise UserError(
                "quantizer: expected a VectorQuantizer with channel_dim=1, for maps (b, d, h, w); "
                f"got a {type(quantizer).__name__} with channel_dim={quantizer.channel_dim}."
            )
        if quantizer.estimator is reflection:
            raise UserError(
                "estimator: expected one whose value is the code, because the next scale codes the "
                "residual; got the reflection. Use the rotation."
            )
        if quantizer.codebook.metric != "euclidean":
            raise UserError(
                "metric: expected euclidean, because the residuals of later scales are shorter; "
                f"got {quantizer.codebook.metric}."
            )
        self.scales = tuple(scales)
        whole = self.scales and all(type(scale) is int for scale in self.scales)
        if not whole or any(b <= a for a, b in pairwise((0, *self.scales, LARGEST))):
            raise UserError(
                f"scales: expected increasing integers below {LARGEST:,}, such as 1, 2, 4, 8; got "
                f"{scales}."
            )
        if not 0 <= dropout <= 1:
            raise UserError(f"dropout: expected 0 to 1; got {dropout}.")
        self.quantizer, self.dim, self.dropout = quantizer, quantizer.dim, dropout
        self.phi = nn.ModuleList(Phi(quantizer.dim) for _ in self.scales)
        self.index_shape = (len(self.scales),)

    @property
    def codebook_sizes(self) -> tuple[int]:
        """One number of codes, because all scales share them."""
        return self.quantizer.codebook_sizes

    @property
    def residual_levels(self) -> int:
        return len(self.scales)

    @property
    def codebook(self) -> Codebook:
        """The codebook that all scales share."""
        return self.quantizer.codebook

    @property
    def tables(self) -> NoReturn:
        """Not available: the code of a position is no sum of rows, as maps overlap.

        Raises:
            UserError: always.
        """
        raise UserError(
            "tables: expected a quantizer whose codes are sums of rows; got a MultiScaleQuantizer, "
            "whose maps overlap. Use `codebook.embeddings` and `added`."
        )

    @property
    def defer_update(self) -> bool:
        """Whether the codebook waits for `update_codebook()`."""
        return self.quantizer.defer_update

    @defer_update.setter
    def defer_update(self, value: bool) -> None:
        self.quantizer.defer_update = value

    def forward(
        self, z: Float[Tensor, "b d h w"], mask: Bool[Tensor, "b h w"] | None = None
    ) -> Quantized:
        """Quantize.

        Args:
            z: maps; any floating dtype.
            mask: not supported.

        Returns:
            As from a `VectorQuantizer`. `indices` (b, h, w, scales) has a scale's tokens where the
            areas that they cover begin, and −1 elsewhere. The losses are the means over the scales,
            of the whole map after each.

        Raises:
            UserError: z of another shape or dtype, or a mask.
        """
        x, grid = self._checked(z, mask), (z.shape[2], z.shape[3])
        total, found, losses = torch.zeros_like(x), [], []
        with whole_precision(z), one_step(self):
            if self.training and not self.codebook.ready:
                vectors = self._vectors(x).transpose(1, 2).flatten(0, 1)
                self.codebook.prepare(self.codebook.project(vectors.detach()))
            for level, (scale, kept) in enumerate(zip(self.scales, self._kept(x), strict=True)):
                small = gathered(self._reduced(x - total.detach(), scale), scale, self.scales[-1])
                masked = kept.view(-1, 1, 1).expand(small[:, 0].shape)
                part = self.quantizer(small, masked if self._drops() else None)
                found.append(spread(part.indices, grid, scale, self.scales[-1], -1))
                total = total + self.added(self.quantizer.lookup(found[-1]), level)
                losses.append(_losses(x, total, kept, part.entropy_loss))
            q = total.detach().movedim(1, -1)
            z_q = self.quantizer.estimator(x.movedim(1, -1), q).movedim(-1, 1)
        means = torch.stack(losses).mean(0)
        return Quantized(z_q.to(z.dtype), torch.stack(found, -1), *means.unbind())

    def encode(
        self, z: Float[Tensor, "b d h w"], mask: Bool[Tensor, "b h w"] | None = None
    ) -> Int64[Tensor, "b h w s"]:
        """The indices alone, in the shape that `forward` returns."""
        rest = self._checked(z, mask)
        total, found = torch.zeros_like(rest), []
        with whole_precision(z):
            for level, scale in enumerate(self.scales):
                found.append(self._tokens(self._reduced(rest - total, scale), scale))
                total = total + self.added(self.quantizer.lookup(found[-1]), level)
        return torch.stack(found, -1)

    def lookup(self, indices: Int64[Tensor, "b h w s"]) -> Float[Tensor, "b d h w"]:
        """The sums of the maps, float32; a token of −1 is a vector of zeros.

        Args:
            indices: of all scales, or of the first few: `indices[..., :2]` decodes to the
                approximation of the first two.

        Raises:
            UserError: indices of another dtype, shape or number of scales, or out of range.
        """
        most, shape = len(self.scales), tuple(indices.shape)
        if len(shape) != 4 or not 1 <= shape[3] <= most:
            raise UserError(
                f"indices: expected (batch, rows, columns, scales) with 1 to {most} scales; got "
                f"shape {shape}. Pass indices as `encode` returns them."
            )
        with whole_precision(indices):
            maps = [
                self.added(self.quantizer.lookup(each), level)
                for level, each in enumerate(indices.unbind(3))
            ]
            # As in a forward pass, to the same bits.
            return sum(maps, torch.zeros_like(maps[0]))

    def tokens(self, indices: Int64[Tensor, "b h w s"], level: int) -> Int64[Tensor, "b r c"]:
        """The map of tokens of one scale."""
        return gathered(indices[..., level], self.scales[level], self.scales[-1])

    def added(self, codes: Float[Tensor, "b d h w"], level: int) -> Float[Tensor, "b d h w"]:
        """What a scale adds: its codes, at the positions of its tokens, enlarged, and then φ."""
        added: Tensor = self.phi[level](self._enlarged(codes, self.scales[level]))
        return added

    def update_codebook(self) -> None:
        self.quantizer.update_codebook()

    def initialize_codebook(
        self, z: Float[Tensor, "b d h w"], mask: Bool[Tensor, "b h w"] | None = None
    ) -> None:
        """Place the codes by k-means over the vectors of all scales.

        Each scale's are those of the residual that exact codes would leave.

        Args:
            z: maps.
            mask: True where a token counts; in a reduced map, that at its first position decides.
        """
        kept = None
        if mask is not None:
            parts = [gathered(mask, scale, self.scales[-1]).flatten(1) for scale in self.scales]
            kept = torch.cat(parts, 1)
        with whole_precision(z):
            self.quantizer.initialize_codebook(self._vectors(self._checked(z, None)), kept)

    def _vectors(self, rest: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d t"]:
        """The vectors of all scales, if codes were exact."""
        found = []
        for scale in self.scales:
            small = self._reduced(rest, scale)
            found.append(gathered(small, scale, self.scales[-1]).flatten(2))
            rest = rest - self._enlarged(small, scale)
        return torch.cat(found, 2)

    def _tokens(self, small: Float[Tensor, "b d h w"], scale: int) -> Int64[Tensor, "b h w"]:
        """The nearest codes of a map, both spread over the grid."""
        last = self.scales[-1]
        if exporting():
            return self.quantizer.encode(small).where(positions(small, scale, last), -1)
        tokens = self.quantizer.encode(gathered(small, scale, last))
        return spread(tokens, (small.shape[2], small.shape[3]), scale, last, -1)

    def _reduced(self, z: Tensor, scale: int) -> Float[Tensor, "b d h w"]:
        return z if scale == self.scales[-1] else reduced(z, scale, self.scales[-1])

    def _enlarged(self, codes: Tensor, scale: int) -> Float[Tensor, "b d h w"]:
        return codes if scale == self.scales[-1] else enlarged(codes, scale, self.scales[-1])

    def _drops(self) -> bool:
        return self.training and self.dropout > 0

    def _kept(self, z: Tensor) -> Bool[Tensor, "s b"]:
        """The images that each scale codes."""
        levels = torch.arange(len(self.scales), device=z.device).unsqueeze(1)
        if not self._drops():
            return (levels >= 0).expand(-1, len(z))
        share = drawn(len(z), z.device) / self.dropout
        return (share * len(self.scales)).long() >= levels

    def _checked(self, z: Tensor, mask: Tensor | None) -> Float[Tensor, "b d h w"]:
        """z in float32, or float64 if it is."""
        if mask is not None:
            raise UserError(
                "mask: expected None, because the tokens of coarse scales cover many positions; "
                "got one. Use a ResidualQuantizer."
            )
        if z.ndim != 4:
            raise UserError(
                f"z: expected maps (batch, {self.dim}, rows, columns); got shape {tuple(z.shape)}. "
                "Multi-scale quantization needs two dimensions."
            )
        channels_last(z, None, self.dim, 1)
        return z if z.dtype == torch.float64 else z.float()

    def extra_repr(self) -> str:
        return f"scales={self.scales}, dropout={self.dropout}"


def _losses(x: Tensor, total: Tensor, kept: Tensor, entropy: Tensor) -> Float[Tensor, "3"]:
    """Commitment, codebook and entropy loss after one scale; of the images that are kept."""
    share = kept / kept.sum().clamp_min(1)

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return (F.mse_loss(a, b, reduction="none").mean((1, 2, 3)) * share).sum().float()

    return torch.stack([mean(x, total.detach()), mean(x.detach(), total), entropy])
