"""Drop-in for code written for `vector-quantize-pytorch`: change the import, keep the rest.

    from rotvq.compat import VectorQuantize  # was: from vector_quantize_pytorch

The common arguments mean the same; one that is not supported is told of with what to use instead.
Different, on purpose: the decoder sees exact codes; indices are float32's under autocast; k-means
keeps its counts; `threshold_ema_dead_code` above 0 restarts codes used less than 3 % of the mean,
whatever the batch; the loss is a scalar.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization import EMA, GradientLearned, Restart, VectorQuantizer

_INSTEAD = {
    "heads": (1, "rotvq.GroupedQuantizer"),
    "use_cosine_sim": (False, "normalized vectors: torch.nn.functional.normalize before the layer"),
    "codebook_diversity_loss_weight": (0.0, "weigh_use of rotvq.VectorQuantizer"),
    "orthogonal_reg_weight": (0.0, "no orthogonality: codes live by Restart"),
    "stochastic_sample_codes": (False, "the nearest code: rotvq never samples"),
}
"""Arguments that are not supported, the value that means without, and what to use."""

_NO_MATTER = {"kmeans_iters", "sync_kmeans", "sync_codebook", "eps", "learnable_codebook_lr"}
"""Arguments that are not needed here: processes always agree, k-means takes the steps it takes."""


class VectorQuantize(nn.Module):
    """A `rotvq.VectorQuantizer` with the arguments and results of vector-quantize-pytorch.

    Args:
        dim: channels of the input.
        codebook_size: number of codes.
        codebook_dim: length of a code; other than dim, a linear layer stands before and after.
        decay: γ of the moving averages.
        commitment_weight: β, which the loss has in it already.
        kmeans_init: place the codes by k-means over the first batch.
        threshold_ema_dead_code: above 0, dead codes restart.
        rotation_trick: rotate and rescale the gradient; False copies it straight through.
        learnable_codebook: the codes are parameters that the loss moves, instead of averages.
        channel_last: False for (b, dim, n).
        accept_image_fmap: the input is (b, dim, h, w).
        others: what else that layer takes; none may ask for something else.

    Raises:
        UserError: an argument asks for what is not here.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebook_dim: int | None = None,
        decay: float = 0.8,
        commitment_weight: float = 1.0,
        kmeans_init: bool = False,
        threshold_ema_dead_code: float = 0,
        rotation_trick: bool | None = None,
        learnable_codebook: bool = False,
        channel_last: bool = True,
        accept_image_fmap: bool = False,
        **others: Any,
    ) -> None:
        super().__init__()
        straight = others.pop("straight_through", False)
        _check(others)
        width = codebook_dim or dim
        self.commitment_weight = commitment_weight
        self.channel_dim = 1 if accept_image_fmap or not channel_last else -1
        self.project_in = nn.Linear(dim, width) if width != dim else nn.Identity()
        self.project_out = nn.Linear(width, dim) if width != dim else nn.Identity()
        self.quantizer = VectorQuantizer(
            codebook_size,
            width,
            estimator="straight_through" if straight or rotation_trick is False else "rotation",
            rule=GradientLearned() if learnable_codebook else EMA(decay),
            init="data" if kmeans_init else "uniform",
            restart=Restart() if threshold_ema_dead_code > 0 else None,
        )

    def forward(
        self, x: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> tuple[Float[Tensor, "..."], Int64[Tensor, "..."], Float[Tensor, ""]]:
        """Quantize.

        Args:
            x: vectors, with their channels where the arguments say.
            mask: True where a token counts.

        Returns:
            The codes in x's shape, their indices, and the loss: β times the commitment loss, and
            the codebook loss where the codes are learned by it.
        """
        out = self.quantizer(self.project_in(x.movedim(self.channel_dim, -1)), mask)
        loss = self.commitment_weight * out.commitment_loss
        if self.quantizer.codebook.rule.learned:
            loss = loss + out.codebook_loss
        if not self.training:
            loss = torch.zeros_like(loss)
        return self.project_out(out.z_q).movedim(-1, self.channel_dim), out.indices, loss

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The codes."""
        return self.quantizer.codebook.e

    @property
    def codebook_size(self) -> int:
        """Their number."""
        return len(self.quantizer.codebook)

    def get_codes_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Codes of indices, before the projection out."""
        return self.quantizer.lookup(indices)

    def get_output_from_indices(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What `forward` gives for those indices, channels last as that layer has them."""
        out: Tensor = self.project_out(self.quantizer.lookup(indices))
        return out


def _check(others: dict[str, Any]) -> None:
    for name, value in others.items():
        if name in _NO_MATTER:
            continue
        if name not in _INSTEAD:
            raise UserError(
                f"{name}: expected an argument that rotvq.compat knows; it does not know this one. "
                "See rotvq.VectorQuantizer for what there is."
            )
        without, instead = _INSTEAD[name]
        if value != without:
            raise UserError(f"{name}: expected {without}; got {value}. Use {instead}.")
