"""`VectorQuantize`: one or several codebooks for each vector."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.compat._arguments import Refused, check, codebook_layer
from rotvq.compat._losses import (
    LossBreakdown,
    check_targets,
    cross_entropy,
    diversity,
    orthogonality,
    scores,
    weighted,
)
from rotvq.compat._steps import Weight, frozen, step_afterwards
from rotvq.errors import UserError
from rotvq.quantization import GroupedQuantizer, Quantized, Quantizer, VectorQuantizer
from rotvq.quantization.processes import alone

_REFUSED_IN_FORWARD: Refused = {
    "topk": ((None,), "rotvq.distances, which has those to all codes"),
    "codebook_transform_fn": ((None,), "update=LinearMap() of rotvq.VectorQuantizer"),
    "accum_ema_update": ((False,), "defer_update of rotvq.VectorQuantizer"),
    "sample_codebook_temp": ((None,), "sample_codebook_temp of the layer"),
}


class VectorQuantize(nn.Module):
    """A `rotvq.VectorQuantizer` with the arguments and results of vector-quantize-pytorch.

    Args:
        dim: channels of the input.
        codebook_size: number of codes.
        codebook_dim: length of a code; if codes do not add up to dim, linear layers project.
        heads: number of codes for each vector.
        separate_codebook_per_head: give each head a codebook of its own.
        decay: γ of the moving averages; at 1, the codes stay where they are.
        freeze_codebook: neither updates nor the loss move the codes.
        layernorm_after_project_in: normalize the projected vectors.
        channel_last: False for (b, dim, n).
        accept_image_fmap: the input is (b, dim, h, w).
        accept_3d_fmap: the input is (b, dim, t, h, w).
        commitment_weight: β, which the returned loss includes.
        commitment_use_cross_entropy_loss: the commitment loss is the cross-entropy of the scores.
        orthogonal_reg_weight: weight of the squared cosines of pairs of codes. The codes are then
            learned.
        orthogonal_reg_active_codes_only: count only codes that the batch has chosen.
        orthogonal_reg_max_codes: number of codes to draw for that loss.
        codebook_diversity_loss_weight: weight of the negative entropy of the soft choice.
        codebook_diversity_temperature: what the scores are multiplied by for that loss.
        sync_codebook: False gives each process a codebook of its own.
        return_zeros_for_masked_padding: return zeros for masked tokens; False returns the input.
        route_gradients_to_input: False stops the gradient of the codes.
        codebook: arguments of `codebook_layer`, and those that are ignored or refused.

    Raises:
        UserError: an argument requests something unsupported.
    """

    zero: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebook_dim: int | None = None,
        heads: int = 1,
        separate_codebook_per_head: bool = False,
        decay: float = 0.8,
        *,
        freeze_codebook: bool = False,
        layernorm_after_project_in: bool = False,
        channel_last: bool = True,
        accept_image_fmap: bool = False,
        accept_3d_fmap: bool = False,
        commitment_weight: float = 1.0,
        commitment_use_cross_entropy_loss: bool = False,
        orthogonal_reg_weight: float = 0.0,
        orthogonal_reg_active_codes_only: bool = False,
        orthogonal_reg_max_codes: int | None = None,
        codebook_diversity_loss_weight: float = 0.0,
        codebook_diversity_temperature: float = 100.0,
        sync_codebook: bool | None = None,
        return_zeros_for_masked_padding: bool = True,
        route_gradients_to_input: bool = True,
        **codebook: Any,
    ) -> None:
        super().__init__()
        width = codebook_dim or dim
        if codebook.get("rotation_trick") is None:
            codebook["rotation_trick"] = dim > 1
        self.heads = heads
        self.separate_codebook_per_head = separate_codebook_per_head and heads > 1
        self.layers = nn.ModuleList(
            codebook_layer(
                codebook_size,
                width,
                decay=decay,
                orthogonal_reg_weight=orthogonal_reg_weight,
                **codebook,
            )
            for _ in range(heads if self.separate_codebook_per_head else 1)
        )
        levels = self._levels()
        self.quantizer: Quantizer = (
            GroupedQuantizer(levels) if self.separate_codebook_per_head else levels[0]
        )
        projects = width * heads != dim
        norm = [nn.LayerNorm(width * heads)] if layernorm_after_project_in else []
        self.project_in: nn.Module = nn.Identity()
        if projects:
            linear = nn.Linear(dim, width * heads)
            self.project_in = nn.Sequential(linear, *norm) if norm else linear
        self.project_out = nn.Linear(width * heads, dim) if projects else nn.Identity()
        self.commitment_weight = commitment_weight
        self.commitment_use_cross_entropy_loss = commitment_use_cross_entropy_loss
        self.orthogonal_reg_weight = orthogonal_reg_weight
        self.orthogonal_reg_active_codes_only = orthogonal_reg_active_codes_only
        self.orthogonal_reg_max_codes = orthogonal_reg_max_codes
        self.codebook_diversity_loss_weight = codebook_diversity_loss_weight
        self.codebook_diversity_temperature = codebook_diversity_temperature
        self.freeze_codebook = freeze_codebook
        self.never_moves = decay >= 1 and not self.learned
        self.sync_codebook = sync_codebook
        self.return_zeros_for_masked_padding = return_zeros_for_masked_padding
        self.route_gradients_to_input = route_gradients_to_input
        self.channel_dim = 1 if accept_image_fmap or accept_3d_fmap or not channel_last else -1
        # Follows the dtype of the module, unlike averaged codes.
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(
        self,
        x: Float[Tensor, "..."],
        indices: Int64[Tensor, "..."] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        lens: Int64[Tensor, " b"] | None = None,
        *,
        freeze_codebook: bool | None = None,
        return_loss_breakdown: bool = False,
        ema_update_weight: Weight | None = None,
        ema_update: bool | None = None,
        **others: Any,
    ) -> tuple[Any, ...]:
        """Quantize.

        Args:
            x: vectors, in the layout that the arguments of the layer declare.
            indices: return the cross-entropy of the scores and these codes instead; −1 is left out.
            mask: True where a token counts.
            lens: number of tokens that count in each sequence, instead of a mask.
            freeze_codebook: overrides that of the layer for this pass.
            return_loss_breakdown: return a `LossBreakdown` too.
            ema_update_weight: scales the step 1 − γ of each code: (k,) or (heads, k), or a
                function of the step's sums (1, k, d) and counts (1, k) of vectors that returns it.
            ema_update: False leaves moving averages as they are in this pass.
            others: the other arguments of that layer, with values that request nothing unsupported.

        Returns:
            The codes in the shape of x; their indices, with a last dimension for several heads;
            and the loss: β times the mean squared error, which also moves learned codes, and the
            other losses with their weights. It is 0 in evaluation.

        Raises:
            UserError: an argument requests something unsupported, or indices do not fit x.
        """
        check("VectorQuantize.forward", others, _REFUSED_IN_FORWARD, set())
        fixed = self.freeze_codebook if freeze_codebook is None else freeze_codebook
        fixed = fixed or self.never_moves
        x = x.movedim(self.channel_dim, -1)
        if lens is not None:
            if mask is not None:
                raise UserError("lens: expected either lens or mask; got both. Pass one.")
            mask = torch.arange(x.shape[1], device=lens.device) < lens.unsqueeze(1)
        if indices is not None:
            heads = () if self.heads == 1 else (self.heads,)
            check_targets(indices, torch.Size((*x.shape[:-1], *heads)), self.codebook_size)
        z = self.project_in(x)
        still = fixed or (ema_update is False and not self.learned)
        varied = self.commitment_use_cross_entropy_loss or self.codebook_diversity_loss_weight
        scored = indices is not None or (self.training and varied)
        late = not still and (scored or ema_update_weight is not None)
        with (
            alone() if self.sync_codebook is False else nullcontext(),
            step_afterwards(self._levels(), ema_update_weight) if late else nullcontext(),
        ):
            out = self._quantize(z, mask, still)
            found = self._scores(z, mask, fixed) if scored else None  # before the codes move
        z_q = out.z_q if self.route_gradients_to_input else out.z_q.detach()
        z_q = self.project_out(z_q)
        if mask is not None:
            padding = 0.0 if self.return_zeros_for_masked_padding else x.to(z_q.dtype)
            z_q = z_q.where(mask.unsqueeze(-1), padding)
        z_q = z_q.movedim(-1, self.channel_dim)
        if indices is not None:
            return z_q, cross_entropy(cast(Tensor, found), indices)
        loss, breakdown = self._loss(found, out, mask, fixed)
        result = (z_q, out.indices, loss)
        return (*result, breakdown) if return_loss_breakdown else result

    def _quantize(self, z: Tensor, mask: Tensor | None, still: bool) -> Quantized:
        if self._shares:
            z = z.unflatten(-1, (self.heads, -1))
            mask = None if mask is None else mask.unsqueeze(-1).expand(z.shape[:-1])
        with frozen(self.quantizer, z, mask) if still else nullcontext():
            out: Quantized = self.quantizer(z, mask)
        return replace(out, z_q=out.z_q.flatten(-2)) if self._shares else out

    def _loss(
        self, scores: Tensor | None, out: Quantized, mask: Tensor | None, fixed: bool
    ) -> tuple[Tensor, LossBreakdown]:
        zero = torch.zeros_like(out.commitment_loss)
        if not self.training:
            return zero, LossBreakdown(zero, zero, zero, zero)
        commitment, loss = out.commitment_loss, zero
        varied = orthogonal = zero
        if self.commitment_use_cross_entropy_loss:
            commitment = cross_entropy(cast(Tensor, scores), out.indices)
            loss = self.commitment_weight * commitment
        else:
            loss = weighted(out, self.commitment_weight, self.learned and not fixed)
        if self.codebook_diversity_loss_weight:
            varied = diversity(cast(Tensor, scores), self.codebook_diversity_temperature, mask)
            loss = loss + self.codebook_diversity_loss_weight * varied
        if self.orthogonal_reg_weight and not fixed:
            # Copies, because a dead code may restart before the backward pass.
            codes = [layer.codebook.embeddings.clone() for layer in self._levels()]
            if self.orthogonal_reg_active_codes_only:
                chosen = out.indices if self.separate_codebook_per_head else out.indices[..., None]
                codes = [
                    e[i[i >= 0].unique()] for e, i in zip(codes, chosen.unbind(-1), strict=False)
                ]
            each = [orthogonality(e, self.orthogonal_reg_max_codes) for e in codes]
            orthogonal = torch.stack(each).mean()
            loss = loss + self.orthogonal_reg_weight * orthogonal
        return loss, LossBreakdown(commitment, varied, orthogonal, zero)

    def _scores(self, z: Tensor, mask: Tensor | None, fixed: bool) -> Tensor:
        """(..., heads, k)."""
        if mask is not None:
            z = z.where(mask.unsqueeze(-1), 0.0)
        levels, parts = self._levels(), z.unflatten(-1, (self.heads, -1)).unbind(-2)
        each = levels if len(levels) > 1 else levels * self.heads
        return torch.stack([scores(*pair, fixed) for pair in zip(each, parts, strict=True)], -2)

    def _levels(self) -> list[VectorQuantizer]:
        return cast(list[VectorQuantizer], list(self.layers))

    @property
    def _shares(self) -> bool:
        """Whether all heads have one codebook."""
        return self.heads > 1 and not self.separate_codebook_per_head

    @property
    def learned(self) -> bool:
        """Whether a loss moves the codes."""
        return self._levels()[0].codebook.update.learned

    @property
    def codebook(self) -> Float[Tensor, "*h k d"]:
        """The codes; (heads, k, d) if each head has its own. May be assigned, as `set_codes`."""
        codes = [level.codebook.embeddings for level in self._levels()]
        return torch.stack(codes) if self.separate_codebook_per_head else codes[0]

    @codebook.setter
    def codebook(self, codes: Tensor) -> None:
        several = codes.unbind(0) if self.separate_codebook_per_head else (codes,)
        for level, own in zip(self._levels(), several, strict=True):
            level.codebook.set_codes(own)

    @property
    def codebook_size(self) -> int:
        """The number of codes."""
        return len(self._levels()[0].codebook)

    def get_codes_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The codes of indices before the projection out, in the layout of x."""
        return self._codes(indices).movedim(-1, self.channel_dim)

    def get_output_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices; zeros for −1.

        As in that layer, in the layout of x without a projection, and channels last with one.
        """
        if isinstance(self.project_out, nn.Identity):
            return self.get_codes_from_indices(indices)
        out: Tensor = self.project_out(self._codes(indices))
        kept = indices >= 0 if self.heads == 1 else (indices >= 0).all(-1)
        return out.where(kept.unsqueeze(-1), 0.0)

    def _codes(self, indices: Tensor) -> Tensor:
        codes = self.quantizer.lookup(indices).to(self.zero.dtype)
        return codes.flatten(-2) if self._shares else codes
