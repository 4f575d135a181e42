"""`LFQ`, `ResidualLFQ` and `GroupedResidualLFQ`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.compat._arguments import Refused, check
from rotvq.compat._layout import Codes
from rotvq.compat._residual import GroupedLayer, ResidualLayer, per_group
from rotvq.errors import UserError
from rotvq.quantization import BinarySphericalQuantizer, LookupFreeQuantizer
from rotvq.quantization.entropy import binary_entropies
from rotvq.quantization.estimators import straight_through
from rotvq.quantization.tensors import added, mean_square

_REFUSED: Refused = {
    "cosine_sim_project_in": ((False,), "spherical=True"),
    "experimental_softplus_entropy_loss": ((False,), "the entropy loss itself"),
    "orthogonal_rotation": ((False,), "a linear layer of your own before and after"),
}
_WITHOUT_EFFECT = {
    # The exact entropies are cheap here.
    "frac_per_sample_entropy",
    "force_quantization_f32",
    "entropy_loss_offset",
    "cosine_sim_project_in_scale",
}
_GROUP = 8
"""Bits that the entropy of the batch counts together."""


class Return(NamedTuple):
    """The result of a pass."""

    quantized: Float[Tensor, "..."]
    indices: Int64[Tensor, "..."]
    entropy_aux_loss: Float[Tensor, ""]


class LossBreakdown(NamedTuple):
    """The losses of a pass, without their weights."""

    per_sample_entropy: Float[Tensor, ""]
    batch_entropy: Float[Tensor, ""]
    commitment: Float[Tensor, ""]


class LFQ(Codes):
    """A `rotvq.LookupFreeQuantizer` with the arguments and results of vector-quantize-pytorch.

    The entropy of the batch counts bits in groups of 8, and so holds no table of the codes; for up
    to 256 codes it is exact.

    Args:
        dim: channels of the input; by default the bits of all codebooks.
        codebook_size: number of codes, a power of 2; by default 2^dim.
        entropy_loss_weight: weight of the entropy loss.
        commitment_loss_weight: weight of the commitment loss.
        diversity_gamma: weight of the batch's entropy within the entropy loss.
        straight_through_activation: maps the vectors that the gradient is copied to.
        num_codebooks: number of codes for each vector.
        keep_num_codebooks_dim: whether indices have a dimension for the codebooks.
        codebook_scale: magnitude of the elements of a code, or of the code if spherical.
        has_projections: whether linear layers project in and out.
        projection_has_bias: whether they have a bias.
        soft_clamp_input_value: bound the vectors by a tanh.
        channel_first: the input is (b, dim, ...); by default with four dimensions or more.
        spherical: binary spherical quantization.
        others: the other arguments of that layer, with values that request nothing unsupported.

    Raises:
        UserError: a codebook size that is no power of 2, or an unsupported argument.
    """

    def __init__(
        self,
        *,
        dim: int | None = None,
        codebook_size: int | None = None,
        entropy_loss_weight: float = 0.1,
        commitment_loss_weight: float = 0.0,
        diversity_gamma: float = 1.0,
        straight_through_activation: nn.Module | None = None,
        num_codebooks: int = 1,
        keep_num_codebooks_dim: bool | None = None,
        codebook_scale: float = 1.0,
        has_projections: bool | None = None,
        projection_has_bias: bool = True,
        soft_clamp_input_value: float | None = None,
        channel_first: bool | None = None,
        spherical: bool = False,
        **others: Any,
    ) -> None:
        check("LFQ", others, _REFUSED, _WITHOUT_EFFECT)
        bits = _bits(codebook_size, dim)
        super().__init__(bits, dim, num_codebooks, keep_num_codebooks_dim, channel_first)
        self.project(projection_has_bias, has_projections)
        kind = BinarySphericalQuantizer if spherical else LookupFreeQuantizer
        self.quantizer = kind(bits, entropy_loss=False)
        self.codebook_size = 2**bits
        self.codebook_scale = codebook_scale
        self.entropy_loss_weight = entropy_loss_weight
        self.commitment_loss_weight = commitment_loss_weight
        self.diversity_gamma = diversity_gamma
        self.soft_clamp_input_value = soft_clamp_input_value
        self.activation = straight_through_activation or nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "..."],
        inv_temperature: float = 100.0,
        return_loss_breakdown: bool = False,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Return | tuple[Return, LossBreakdown]:
        """Quantize.

        Args:
            x: (b, n, dim), or (b, dim, ...) with four dimensions or more.
            inv_temperature: 1/τ of the entropy loss.
            return_loss_breakdown: return the losses without their weights too.
            mask: True where a token counts in the losses; (b,) or (b, n).

        Returns:
            The codes in the shape of x, their indices, and the weighted losses; 0 in evaluation.
        """
        z = self.split(x)
        if (most := self.soft_clamp_input_value) is not None:
            z = torch.tanh(z / most) * most
        s = self.codebook_scale
        out = self.quantizer(self.activation(z) / s)
        quantized = (out.z_q * s).to(x.dtype)
        losses = LossBreakdown(*z.new_zeros(3, dtype=torch.float32).unbind())
        if self.training:
            losses = self._losses(z, out.indices, inv_temperature, mask)
        entropy = losses.per_sample_entropy - self.diversity_gamma * losses.batch_entropy
        result = Return(
            self.join(quantized, x),
            self.joined_indices(out.indices),
            self.entropy_loss_weight * entropy + self.commitment_loss_weight * losses.commitment,
        )
        return (result, losses) if return_loss_breakdown else result

    def _losses(
        self, z: Tensor, indices: Tensor, inv_temperature: float, mask: Tensor | None
    ) -> LossBreakdown:
        s = self.codebook_scale
        on = self.quantizer.project(z / s) * s
        codes = self.codes(indices)
        if mask is not None:
            while mask.ndim < on.ndim - 2:
                mask = mask.unsqueeze(-1)
            kept = mask.expand(on.shape[:-2])
            on, codes = on[kept], codes[kept]
        each = [
            binary_entropies(v, s * self.quantizer.scale, 1 / inv_temperature, _GROUP)
            for v in on.flatten(0, -3).unbind(1)
        ]
        own, batch = (torch.stack(values).mean() for values in zip(*each, strict=True))
        return LossBreakdown(own, batch, mean_square(on.flatten(0, -2), codes.flatten(0, -2), None))

    def codes(self, indices: Tensor) -> Tensor:
        return self.quantizer.lookup(indices) * self.codebook_scale

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """All codes; there may be too many to list."""
        return self.quantizer.codebook.embeddings * self.codebook_scale


class ResidualLFQ(ResidualLayer):
    """Binary codes of falling magnitude, each of which codes what the ones before it left over.

    Args:
        dim: channels of the input; linear layers project if they are not the bits of a code.
        num_quantizers: number of levels; level i has codes of magnitude 2 to the power of -i.
        codebook_size: number of codes of a level, a power of 2.
        quantize_dropout: use a random number of levels in each training pass.
        quantize_dropout_cutoff_index: the least number of levels is one more.
        quantize_dropout_multiple_of: round the number of levels up to a multiple.
        soft_clamp_input_value: bound the vectors of the first level by a tanh, and halve the bound
            from level to level.
        others: arguments of `LFQ`.

    Raises:
        UserError: an argument requests something unsupported.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_quantizers: int,
        codebook_size: int,
        quantize_dropout: bool = False,
        quantize_dropout_cutoff_index: int = 0,
        quantize_dropout_multiple_of: int = 1,
        soft_clamp_input_value: float | None = None,
        **others: Any,
    ) -> None:
        super().__init__(
            num_quantizers,
            quantize_dropout,
            quantize_dropout_cutoff_index,
            quantize_dropout_multiple_of,
        )
        bits = _bits(codebook_size, None)
        self.project(dim, bits)
        most = soft_clamp_input_value
        self.layers = nn.ModuleList(
            LFQ(
                dim=bits,
                codebook_scale=2.0**-level,
                soft_clamp_input_value=None if most is None else most * 2.0**-level,
                channel_first=False,
                **others,
            )
            for level in range(num_quantizers)
        )

    def forward(
        self,
        x: Float[Tensor, "..."],
        mask: Bool[Tensor, "..."] | None = None,
        return_all_codes: bool = False,
        rand_quantize_dropout_fixed_seed: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Quantize.

        Args:
            x: (b, n, dim), or (b, dim, ...) with four dimensions or more.
            mask: True where a token counts in the losses.
            return_all_codes: return the codes of each level too.
            rand_quantize_dropout_fixed_seed: decides the number of levels of quantizer dropout.

        Returns:
            The sums of the codes in the shape of x; the indices (b, ..., q), −1 for levels that
            were left out; the loss of each level (q,); and if asked for, the codes of each level.
        """
        number = self.number_of_levels(rand_quantize_dropout_fixed_seed, x.device)
        channel_dim = 1 if x.ndim >= 4 else -1
        z = self.project_in(x.movedim(channel_dim, -1))
        residual = z
        indices, losses, codes = [], [], []
        for level, layer in enumerate(list(self.layers)[:number]):
            _, found, loss = layer(residual, mask=mask)
            codes.append(self.level_codes(level, found))
            residual = residual - codes[-1]
            indices.append(found)
            losses.append(loss)
        all_indices = self.stacked(indices)
        quantized = self.project_out(straight_through(z, added(codes)))
        result = (quantized.movedim(-1, channel_dim), all_indices, self.padded(losses))
        return (*result, self.get_codes_from_indices(all_indices)) if return_all_codes else result

    def level_codes(self, level: int, indices: Tensor) -> Tensor:
        layer = cast(LFQ, self.layers[level])
        return layer.quantizer.lookup(indices) * layer.codebook_scale

    @property
    def codebooks(self) -> Float[Tensor, "q k d"]:
        """All codes of each level."""
        return torch.stack([cast(LFQ, layer).codebook for layer in self.layers])


class GroupedResidualLFQ(GroupedLayer):
    """Groups of channels, each with a `ResidualLFQ` of its own.

    Args:
        dim: channels of the input.
        groups: number of groups.
        others: arguments of `ResidualLFQ`.

    Raises:
        UserError: the groups do not divide dim, or an argument is unsupported.
    """

    def __init__(self, *, dim: int, groups: int = 1, **others: Any) -> None:
        channel_dim = 1 if others.pop("accept_image_fmap", False) else -1
        layers = [ResidualLFQ(dim=per_group(dim, groups), **others) for _ in range(groups)]
        super().__init__(layers, dim, channel_dim)


def _bits(codebook_size: int | None, dim: int | None) -> int:
    if codebook_size is None:
        if dim is None:
            raise UserError("dim: expected dim, codebook_size or both; got neither.")
        return dim
    if codebook_size < 2 or codebook_size & (codebook_size - 1):
        near = 2 ** math.ceil(math.log2(max(codebook_size, 2)))
        raise UserError(f"codebook_size: expected a power of 2 ({near}?); got {codebook_size}.")
    return codebook_size.bit_length() - 1
