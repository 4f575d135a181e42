"""`ResidualVQ` and `GroupedResidualVQ`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.compat._arguments import Refused, check, codebook_layer
from rotvq.compat._implicit import ImplicitLevels
from rotvq.compat._losses import weighted
from rotvq.compat._residual import GroupedLayer, ResidualLayer, per_group
from rotvq.compat._steps import frozen
from rotvq.errors import UserError
from rotvq.quantization import Quantized, ResidualQuantizer, VectorQuantizer
from rotvq.quantization.processes import alone

_REFUSED: Refused = {
    "heads": ((1,), "GroupedResidualVQ"),
    "diveq": ((False,), "learnable_codebook=True: the decoder must see codes, not vectors near"),
    "beam_size": ((None, 1), "the nearest code of each level"),
    "eval_beam_size": ((None, 1), "the nearest code of each level"),
    "quant_grad_frac": ((0.0, 0), "0: the gradient crosses all levels in one step"),
    "route_gradients_to_input": ((True,), "quantized.detach() of what it returns"),
    "commitment_use_cross_entropy_loss": ((False,), "the squared error"),
    "orthogonal_reg_weight": ((0.0, 0), "threshold_ema_dead_code, which keeps codes in use"),
    "codebook_diversity_loss_weight": ((0.0, 0), "threshold_ema_dead_code"),
    "layernorm_after_project_in": ((False,), "a layer of your own before this one"),
    "separate_codebook_per_head": ((False,), "GroupedResidualVQ"),
}
_WITHOUT_EFFECT = {
    "beam_score_quantizer_weights",
    "orthogonal_reg_active_codes_only",
    "orthogonal_reg_max_codes",
    "codebook_diversity_temperature",
}
_REFUSED_IN_FORWARD: Refused = {
    "indices": ((None,), "torch.nn.functional.cross_entropy over logits of your own"),
    "sample_codebook_temp": ((None,), "sample_codebook_temp of the layer"),
    "beam_size": ((None, 1), "the nearest code of each level"),
}


_PLAIN = "a codebook without implicit_neural_codebook"


class ResidualVQ(ResidualLayer):
    """A `rotvq.ResidualQuantizer` with the arguments and results of vector-quantize-pytorch.

    The gradient crosses all levels in one step, so it is that of one quantizer; there, it is
    multiplied by the number of levels.

    Args:
        dim: channels of the input.
        num_quantizers: number of levels; None for one for each of codebook_size.
        codebook_size: number of codes, or one for each level.
        codebook_dim: length of a code; if it is not dim, linear layers project in and out.
        shared_codebook: use one codebook in all levels.
        implicit_neural_codebook: from the second level on, a network makes the codes from learned
            ones and those of the levels before (QINCo). It holds n × k codes in parts, and takes
            the time of a network for each.
        mlp_kwargs: `dim_hidden` and `depth` of these networks.
        quantize_dropout: use a random number of levels in each training pass.
        quantize_dropout_cutoff_index: the least number of levels is one more.
        quantize_dropout_multiple_of: round the number of levels up to a multiple.
        accept_image_fmap: the input is (b, dim, h, w).
        accept_3d_fmap: the input is (b, dim, t, h, w).
        channel_last: False for (b, dim, n).
        decay: γ of the moving averages; at 1, the codes stay where they are.
        commitment_weight: β, which the returned losses include.
        freeze_codebook: neither updates nor the losses move the codes.
        sync_codebook: False gives each process codebooks of its own.
        return_zeros_for_masked_padding: return zeros for masked tokens; False returns the input.
        others: arguments of `codebook_layer`, and those that are ignored or refused.

    Raises:
        UserError: an argument requests something unsupported.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_quantizers: int | None = None,
        codebook_size: int | tuple[int, ...],
        codebook_dim: int | None = None,
        shared_codebook: bool = False,
        implicit_neural_codebook: bool = False,
        mlp_kwargs: dict[str, Any] | None = None,
        quantize_dropout: bool = False,
        quantize_dropout_cutoff_index: int = 0,
        quantize_dropout_multiple_of: int = 1,
        accept_image_fmap: bool = False,
        accept_3d_fmap: bool = False,
        channel_last: bool = True,
        decay: float = 0.8,
        commitment_weight: float = 1.0,
        freeze_codebook: bool = False,
        sync_codebook: bool | None = None,
        return_zeros_for_masked_padding: bool = True,
        **others: Any,
    ) -> None:
        sizes = _sizes(codebook_size, num_quantizers, shared_codebook)
        super().__init__(
            len(sizes),
            quantize_dropout,
            quantize_dropout_cutoff_index,
            quantize_dropout_multiple_of,
        )
        own = {n: v for n, v in others.items() if n in _REFUSED or n in _WITHOUT_EFFECT}
        check("ResidualVQ", own, _REFUSED, _WITHOUT_EFFECT)
        codebook = {n: v for n, v in others.items() if n not in own}
        width = codebook_dim or dim
        self.project(dim, width)
        if implicit_neural_codebook:
            codebook |= {"learnable_codebook": True, "ema_update": False}
            own_only = {"use_cosine_sim": False, "threshold_ema_dead_code": 0}
            wrong = {n: codebook[n] for n, v in own_only.items() if codebook.get(n, v) != v}
            check("ResidualVQ", wrong, {n: ((own_only[n],), _PLAIN) for n in wrong}, set())
        levels = [codebook_layer(size, width, decay=decay, **codebook) for size in sizes]
        if shared_codebook:
            for level in levels[1:]:
                level.codebook = levels[0].codebook
        self.quantizer = ResidualQuantizer(levels)
        self.implicit = (
            ImplicitLevels(levels, **mlp_kwargs or {}) if implicit_neural_codebook else None
        )
        self.codebook_sizes = sizes
        self.commitment_weight = commitment_weight
        self.freeze_codebook = freeze_codebook
        self.never_moves = decay >= 1 and not self._learned
        self.sync_codebook = sync_codebook
        self.return_zeros_for_masked_padding = return_zeros_for_masked_padding
        channels_first = accept_image_fmap or accept_3d_fmap or not channel_last
        self.channel_dim = 1 if channels_first else -1

    def forward(
        self,
        x: Float[Tensor, "..."],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        return_all_codes: bool = False,
        freeze_codebook: bool | None = None,
        rand_quantize_dropout_fixed_seed: int | None = None,
        **others: Any,
    ) -> tuple[Tensor, ...]:
        """Quantize.

        Args:
            x: vectors, in the layout that the arguments of the layer declare.
            mask: True where a token counts.
            return_all_codes: return the codes of each level too, (q, b, ..., codebook_dim).
            freeze_codebook: overrides that of the layer for this pass.
            rand_quantize_dropout_fixed_seed: decides the number of levels of quantizer dropout.
            others: the other arguments of that layer, with values that request nothing unsupported.

        Returns:
            The sums of the codes in the shape of x; the indices (b, ..., q), −1 for masked tokens
            and levels that were left out; and the loss of each level (q,), 0 in evaluation.

        Raises:
            UserError: an argument requests something unsupported.
        """
        check("ResidualVQ.forward", others, _REFUSED_IN_FORWARD, set())
        fixed = self.freeze_codebook if freeze_codebook is None else freeze_codebook
        fixed = fixed or self.never_moves
        x = x.movedim(self.channel_dim, -1)
        number = self.number_of_levels(rand_quantize_dropout_fixed_seed, x.device)
        with alone() if self.sync_codebook is False else nullcontext():
            z_q, parts = self._quantize(self.project_in(x), mask, number, fixed)
        z_q = self.project_out(z_q)
        if mask is not None:
            padding = 0.0 if self.return_zeros_for_masked_padding else x.to(z_q.dtype)
            z_q = z_q.where(mask.unsqueeze(-1), padding)
        learned = self._learned and not fixed
        losses = self.padded([weighted(part, self.commitment_weight, learned) for part in parts])
        indices = self.stacked([part.indices for part in parts])
        result = (
            z_q.movedim(-1, self.channel_dim),
            indices,
            losses if self.training else torch.zeros_like(losses),
        )
        return (*result, self._codes_of(parts, indices)) if return_all_codes else result

    def _codes_of(self, parts: list[Quantized], indices: Tensor) -> Tensor:
        """The codes of each level in this pass, after which averaged ones have moved."""
        if self._learned:
            return self.get_codes_from_indices(indices)
        codes = torch.stack([part.z_q.detach() for part in parts])
        return F.pad(codes, (*(0, 0) * (codes.ndim - 1), 0, self.num_quantizers - len(parts)))

    def _quantize(
        self, z: Tensor, mask: Tensor | None, number: int, fixed: bool
    ) -> tuple[Tensor, list[Quantized]]:
        if self.implicit is not None:
            return self.implicit.by_level(z, mask, number)
        with frozen(self.quantizer, z, mask) if fixed else nullcontext():
            return self.quantizer.by_level(z, mask, number)

    @property
    def _learned(self) -> bool:
        return self.quantizer.codebooks[0].update.learned

    @property
    def codebook_size(self) -> int:
        """Number of codes of the first level."""
        return self.codebook_sizes[0]

    @property
    def codebooks(self) -> Tensor | tuple[Tensor, ...]:
        """The codes (q, k, d); a tuple if the levels differ in size."""
        levels = cast(list[VectorQuantizer], list(self.quantizer.quantizers))
        codes = tuple(level.codebook.embeddings for level in levels)
        return torch.stack(codes) if len(set(self.codebook_sizes)) == 1 else codes

    def get_codes_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self.implicit is None:
            return super().get_codes_from_indices(indices)
        return torch.stack(list(self.implicit.codes(self.completed(indices))))

    def level_codes(self, level: int, indices: Int64[Tensor, "..."]) -> Float[Tensor, "... d"]:
        return cast(VectorQuantizer, self.quantizer.quantizers[level]).lookup(indices)


class GroupedResidualVQ(GroupedLayer):
    """Groups of channels, each with a `ResidualVQ` of its own (arXiv 2305.02765).

    Args:
        dim: channels of the input.
        groups: number of groups.
        accept_image_fmap: the input is (b, dim, h, w).
        others: arguments of `ResidualVQ`.

    Raises:
        UserError: the groups do not divide dim, or an argument is unsupported.
    """

    def __init__(
        self, *, dim: int, groups: int = 1, accept_image_fmap: bool = False, **others: Any
    ) -> None:
        width = per_group(dim, groups)
        layers = [
            ResidualVQ(dim=width, accept_image_fmap=accept_image_fmap, **others)
            for _ in range(groups)
        ]
        super().__init__(layers, dim, layers[0].channel_dim)


def _sizes(
    size: int | tuple[int, ...] | list[int], number: int | None, shared: bool
) -> tuple[int, ...]:
    if isinstance(size, int):
        if number is None:
            raise UserError(
                "num_quantizers: expected a number of levels with one codebook_size; got None."
            )
        return (size,) * number
    sizes = tuple(size)
    if number not in (None, len(sizes)) or (shared and len(set(sizes)) > 1):
        raise UserError(
            f"codebook_size: expected {number or 'equal'} sizes; got {sizes}. Pass one size for "
            "each level, all the same with a shared codebook."
        )
    return sizes
