"""A drop-in replacement for `VectorQuantize` of vector-quantize-pytorch: only the import changes.

    from rotvq.compat import VectorQuantize  # was: from vector_quantize_pytorch

Arguments have the same meaning. One that asks for an unsupported feature is refused, with what to
use instead. These differences are intended: the decoder sees exact codes; the search runs in
float32 in half precision and under autocast; k-means keeps its counts; `threshold_ema_dead_code`
above 0 restarts codes used less than 3 % of the mean, whatever the batch; nothing changes in
evaluation; index −1 decodes as zeros.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization import EMA, GradientLearned, Quantized, Restart, VectorQuantizer
from rotvq.quantization.processes import alone

_REFUSED: dict[str, tuple[Any, str]] = {
    "heads": (1, "rotvq.GroupedQuantizer"),
    "use_cosine_sim": (False, "normalized vectors: torch.nn.functional.normalize before the layer"),
    "layernorm_after_project_in": (False, "codebook_dim=None and layers of your own around it"),
    "commitment_use_cross_entropy_loss": (False, "the squared error"),
    "orthogonal_reg_weight": (0.0, "threshold_ema_dead_code, which keeps codes in use"),
    "codebook_diversity_loss_weight": (0.0, "entropy_loss of rotvq.VectorQuantizer"),
    "stochastic_sample_codes": (False, "the nearest code: rotvq never samples"),
    "straight_through": (
        False,
        "rotation_trick=False to copy the gradient; there, straight_through is Gumbel-softmax",
    ),
    "directional_reparam": (False, "rotation_trick"),
    "vq_bridge": (None, "update=LinearMap() of rotvq.VectorQuantizer"),
    "manual_ema_update": (False, "defer_update of rotvq.VectorQuantizer"),
    "in_place_codebook_optimizer": (None, "learnable_codebook=True and your own optimizer"),
    "affine_param": (False, "kmeans_init=True, which puts the codes where the data is"),
    "sync_update_v": (0.0, "learnable_codebook alone"),
    "route_gradients_to_input": (True, "quantized.detach() of what it returns"),
}
"""Unsupported arguments: the value that requests nothing, and what to use instead."""

_REFUSED_IN_FORWARD: dict[str, tuple[Any, str]] = {
    "indices": (None, "torch.nn.functional.cross_entropy over logits of your own"),
    "topk": (None, "rotvq.nearest, which finds the nearest code"),
    "return_loss_breakdown": (False, "rotvq.VectorQuantizer, whose result has each loss"),
    "codebook_transform_fn": (None, "update=LinearMap() of rotvq.VectorQuantizer"),
    "ema_update_weight": (None, "mask, which leaves tokens out"),
    "accum_ema_update": (False, "defer_update of rotvq.VectorQuantizer"),
    "ema_update": (None, "freeze_codebook"),
}

_WITHOUT_EFFECT = {
    # Initialization and moving averages work without these here.
    "eps",
    "kmeans_iters",
    "sync_kmeans",
    # Details of arguments that are refused.
    "separate_codebook_per_head",
    "orthogonal_reg_active_codes_only",
    "orthogonal_reg_max_codes",
    "codebook_diversity_temperature",
    "sample_codebook_temp",
    "directional_reparam_variance",
    "manual_in_place_optimizer_update",
    "sync_affine_param",
    "affine_param_batch_decay",
    "affine_param_codebook_decay",
}


class VectorQuantize(nn.Module):
    """A `rotvq.VectorQuantizer` with the arguments and results of vector-quantize-pytorch.

    Args:
        dim: channels of the input.
        codebook_size: number of codes.
        codebook_dim: length of a code; if it is not dim, linear layers project in and out.
        decay: γ of the moving averages.
        commitment_weight: β, which the returned loss includes.
        freeze_codebook: neither updates nor the loss move the codes.
        sync_codebook: False gives each process a codebook of its own.
        kmeans_init: place the codes by k-means over the first batch.
        threshold_ema_dead_code: above 0, dead codes restart.
        rotation_trick: rotate and rescale the gradient; False copies it straight through. The
            default is True if dim is above 1.
        ema_update: codes are moving averages; the opposite of learnable_codebook.
        learnable_codebook: the codes are a parameter that the loss moves, not moving averages.
        channel_last: False for (b, dim, n).
        accept_image_fmap: the input is (b, dim, h, w).
        accept_3d_fmap: the input is (b, dim, t, h, w).
        return_zeros_for_masked_padding: return zeros for masked tokens; False returns the input.
        others: the other arguments of that layer, with values that request nothing unsupported.

    Raises:
        UserError: an argument requests something unsupported.
    """

    zero: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebook_dim: int | None = None,
        *,
        decay: float = 0.8,
        commitment_weight: float = 1.0,
        freeze_codebook: bool = False,
        sync_codebook: bool | None = None,
        kmeans_init: bool = False,
        threshold_ema_dead_code: float = 0,
        rotation_trick: bool | None = None,
        ema_update: bool | None = None,
        learnable_codebook: bool | None = None,
        channel_last: bool = True,
        accept_image_fmap: bool = False,
        accept_3d_fmap: bool = False,
        return_zeros_for_masked_padding: bool = True,
        **others: Any,
    ) -> None:
        super().__init__()
        _check(others, _REFUSED)
        learned = bool(learnable_codebook)
        if ema_update is not None and ema_update == learned:
            raise UserError(
                f"ema_update: expected {not learned} with learnable_codebook={learned}; got "
                f"{ema_update}. Codes that do not move at all are freeze_codebook=True."
            )
        width = codebook_dim or dim
        self.commitment_weight = commitment_weight
        self.freeze_codebook = freeze_codebook
        self.sync_codebook = sync_codebook
        self.return_zeros_for_masked_padding = return_zeros_for_masked_padding
        channels_first = accept_image_fmap or accept_3d_fmap or not channel_last
        self.channel_dim = 1 if channels_first else -1
        self.project_in = nn.Linear(dim, width) if width != dim else nn.Identity()
        self.project_out = nn.Linear(width, dim) if width != dim else nn.Identity()
        rotates = dim > 1 if rotation_trick is None else rotation_trick
        self.quantizer = VectorQuantizer(
            codebook_size,
            width,
            estimator="rotation" if rotates else "straight_through",
            update=GradientLearned() if learned else EMA(decay),
            init="data" if kmeans_init else "uniform",
            restart=Restart() if threshold_ema_dead_code > 0 else None,
        )
        # Follows the dtype of the module, unlike averaged codes.
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(
        self,
        x: Float[Tensor, "..."],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        lens: Int64[Tensor, " b"] | None = None,
        freeze_codebook: bool | None = None,
        **others: Any,
    ) -> tuple[Float[Tensor, "..."], Int64[Tensor, "..."], Float[Tensor, ""]]:
        """Quantize.

        Args:
            x: vectors, in the layout that the arguments of the layer declare.
            mask: True where a token counts.
            lens: number of tokens that count in each sequence, instead of a mask.
            freeze_codebook: overrides that of the layer for this pass.
            others: the other arguments of that layer, with values that request nothing unsupported.

        Returns:
            The codes in the shape of x, their indices, and the loss: β times the mean squared
            error, which also moves learned codes; 0 in evaluation.

        Raises:
            UserError: an argument requests something unsupported.
        """
        _check(others, _REFUSED_IN_FORWARD)
        frozen = self.freeze_codebook if freeze_codebook is None else freeze_codebook
        x = x.movedim(self.channel_dim, -1)
        if lens is not None:
            if mask is not None:
                raise UserError("lens: expected either lens or mask; got both. Pass one.")
            mask = torch.arange(x.shape[1], device=lens.device) < lens.unsqueeze(1)
        with alone() if self.sync_codebook is False else nullcontext():
            out = self._quantize(self.project_in(x), mask, frozen)
        loss = self.commitment_weight * out.commitment_loss
        if self.quantizer.codebook.update.learned and not frozen:
            # Adds only the gradient: the value is that of the commitment loss.
            loss = loss + self.commitment_weight * (out.codebook_loss - out.codebook_loss.detach())
        if not self.training:
            loss = torch.zeros_like(loss)
        z_q = self.project_out(out.z_q)
        if mask is not None:
            padding = 0.0 if self.return_zeros_for_masked_padding else x.to(z_q.dtype)
            z_q = z_q.where(mask.unsqueeze(-1), padding)
        return z_q.movedim(-1, self.channel_dim), out.indices, loss

    def _quantize(self, z: Tensor, mask: Tensor | None, frozen: bool) -> Quantized:
        """Quantize; frozen, as in evaluation, but initialized from the first batch all the same."""
        if not (frozen and self.training):
            return self.quantizer(z, mask)
        if not self.quantizer.codebook.initialized:
            self.quantizer.initialize_codebook(z, mask)
        self.quantizer.eval()
        try:
            return self.quantizer(z, mask)
        finally:
            self.quantizer.train()

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The codes."""
        return self.quantizer.codebook.embeddings

    @property
    def codebook_size(self) -> int:
        """The number of codes."""
        return len(self.quantizer.codebook)

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
        return out.where((indices >= 0).unsqueeze(-1), 0.0)

    def _codes(self, indices: Tensor) -> Tensor:
        return self.quantizer.lookup(indices).to(self.zero.dtype)


def _check(others: dict[str, Any], refused: dict[str, tuple[Any, str]]) -> None:
    for name, value in others.items():
        if name in _WITHOUT_EFFECT:
            continue
        if name not in refused:
            raise UserError(
                f"{name}: expected an argument of VectorQuantize; got an unknown one. See "
                "rotvq.VectorQuantizer for the arguments of this library."
            )
        without, instead = refused[name]
        if isinstance(value, Tensor) or value != without:
            got = f"a {type(value).__name__}" if isinstance(value, Tensor) else value
            raise UserError(f"{name}: expected {without}; got {got}. Use {instead}.")
