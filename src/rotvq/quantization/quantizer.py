"""Vector quantization with one codebook: search, lookup, estimator, losses (eqs. 2-8)."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.names import MetricName
from rotvq.quantization.codebook import Codebook, StepWeight
from rotvq.quantization.entropy import entropy_loss
from rotvq.quantization.estimators import Estimator, by_name
from rotvq.quantization.interface import Quantized, Quantizer
from rotvq.quantization.processes import whole
from rotvq.quantization.restart import Restart
from rotvq.quantization.sampling import Search
from rotvq.quantization.search import nearest
from rotvq.quantization.state import Init
from rotvq.quantization.tensors import (
    channels_at,
    channels_last,
    look_up,
    mean_square,
    transformed,
)
from rotvq.quantization.updates import Update

_WARN_AFTER = 100
"""Forward passes without an update that no gradient accumulation needs: a call is missing."""


class VectorQuantizer(Quantizer):
    """Replace each vector by its nearest code (eq. 2).

    In training, a forward pass also accumulates statistics and updates the codebook, after the
    codes have been read; in evaluation nothing changes. With gradient accumulation or activation
    checkpointing, pass `defer_update=True` and call `update_codebook()` after `optimizer.step()`:
    the codebook then takes one step for all micro-batches, and a recomputed forward pass sees the
    same codes as the first. (Leave a compiled quantizer out of a checkpointed block: it would
    accumulate twice.)

    The search and the losses are computed in float32, whatever the dtype of the model.

    Args:
        codebook_size: number of codes k.
        dim: length d of a code.
        estimator: how the gradient crosses: a name in `ESTIMATORS` or a function (z, q) -> q̃.
        update: how the codes move: `EMA(decay)`, `GradientLearned()` or `LinearMap()`; by default
            `EMA()`, with γ = 0.99.
        init: "uniform" in ±1/k as in the paper's released code, or "data": k-means over the first
            training batch.
        restart: `Restart()` moves dead codes to encoder outputs; None disables restarts.
        metric: "euclidean"; or "cosine", which brings codes and vectors to unit length, so that
            z_q has unit length too.
        search: how a training pass chooses codes: `nearest`, `sampled(temperature)`, or a function
            (z (n, d), codes (k, d)) -> int64 (n,). Evaluation and `encode` always choose the
            nearest.
        entropy_loss: compute the entropy loss in training, which needs memory for n×k numbers.
        channel_dim: the dimension of z that holds the d channels; 1 for (b, d, h, w).
        defer_update: leave the codebook's step to `update_codebook()`.

    Raises:
        UserError: an argument out of range.

    Examples:
        >>> quantizer = VectorQuantizer(512, 64)
        >>> z = torch.randn(8, 100, 64, requires_grad=True)
        >>> out = quantizer(z)
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([8, 100, 64]), torch.Size([8, 100]))
    """

    def __init__(
        self,
        codebook_size: int = 1024,
        dim: int = 256,
        *,
        estimator: str | Estimator = "rotation",
        update: Update | None = None,
        init: Init = "uniform",
        restart: Restart | None = None,
        metric: MetricName = "euclidean",
        search: Search = nearest,
        entropy_loss: bool = False,
        channel_dim: int = -1,
        defer_update: bool = False,
    ) -> None:
        super().__init__()
        self.codebook = Codebook(codebook_size, dim, update, init, restart, metric)
        self.estimator = by_name(estimator) if isinstance(estimator, str) else estimator
        if not callable(search):
            raise UserError(
                f"search: expected `nearest`, `sampled(temperature)` or a function; got {search!r}."
            )
        self.search = search
        self.entropy_loss = entropy_loss
        self.channel_dim = channel_dim
        self.defer_update = defer_update
        self.dim = dim
        self._waiting = 0

    @property
    def codebook_sizes(self) -> tuple[int]:
        return (len(self.codebook),)

    @property
    def tables(self) -> tuple[Float[Tensor, "k d"]]:
        return (whole(self.codebook.embeddings).float(),)

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        z, kept = channels_last(z, mask, self.dim, self.channel_dim)
        shape, dtype, z = z.shape[:-1], z.dtype, z.flatten(0, -2)
        if kept is not None:
            z = z.where(kept.unsqueeze(1), 0.0)
        z = self.codebook.project(z)
        if self.training:
            _refuse_transforms()
        recomputed = self.training and self._recomputed()
        accumulates = self.training and not recomputed
        if accumulates:
            self.codebook.prepare(z, kept)
        e = self.codebook.embeddings.float()
        indices = (self.search if self.training else nearest)(z, e)
        q = F.embedding(indices, e)
        z_q = self.estimator(z, q).to(dtype)
        commitment_loss = mean_square(z, q.detach(), kept)
        # The same value; worth a second pass over n×d only where it has a gradient of its own.
        codebook_loss = (
            mean_square(z.detach(), q, kept)
            if self.codebook.update.learned
            else commitment_loss.detach()
        )
        entropy = commitment_loss.new_zeros(())
        if self.training and self.entropy_loss:
            # A copy, because an update may move the codes before the backward pass.
            entropy = entropy_loss(z, e.clone(), kept)
        if accumulates:
            valid = torch.ones_like(indices, dtype=torch.bool) if kept is None else kept
            self.codebook.accumulate(z, indices, valid)
            if not self.defer_update:
                self.codebook.step()
            elif not torch.compiler.is_compiling():  # a graph would be compiled for every count
                self._count_forward()
        elif recomputed:
            self.codebook.draw_again(z)
        if kept is not None:
            z_q = z_q.where(kept.unsqueeze(1), 0.0)
            indices = indices.where(kept, -1)
        z_q = channels_at(z_q.unflatten(0, shape), self.channel_dim)
        return Quantized(z_q, indices.unflatten(0, shape), commitment_loss, codebook_loss, entropy)

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "..."]:
        z, kept = channels_last(z, mask, self.dim, self.channel_dim)
        vectors = self.codebook.project(z.flatten(0, -2))
        indices = nearest(vectors, whole(self.codebook.embeddings).float())
        if kept is not None:
            indices = indices.where(kept, -1)
        return indices.unflatten(0, z.shape[:-1])

    def lookup(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        return look_up(indices, whole(self.codebook.embeddings).float(), self.channel_dim)

    def compared(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return channels_at(self.codebook.project(z.movedim(self.channel_dim, -1)), self.channel_dim)

    def _estimated(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.compared(z)

    def initialize_codebook(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> None:
        z, kept = channels_last(z, mask, self.dim, self.channel_dim)
        self.codebook.initialize(self.codebook.project(z.flatten(0, -2)), kept)

    def update_codebook(self, weight: StepWeight | None = None) -> None:
        """Update the codebook with all vectors since its last step.

        Args:
            weight: scales the step 1 − γ of each code, as in `Codebook.step`.
        """
        self._waiting = 0 if self._waiting < _WARN_AFTER else _WARN_AFTER  # warn only once
        self.codebook.step(weight)

    def _recomputed(self) -> bool:
        """Whether this forward pass is the second one of activation checkpointing.

        Raises:
            UserError: it is, and the codes of the first one are gone.
        """
        # A second forward pass runs inside a backward pass.
        again = not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
        if again and not self.defer_update:
            raise UserError(
                "activation checkpointing: expected a quantizer with defer_update=True, because "
                "the codes of the first forward pass are gone; got False. Set it and call "
                "update_codebook() after optimizer.step()."
            )
        return again

    def _count_forward(self) -> None:
        self._waiting += 1
        if self._waiting == _WARN_AFTER:
            warnings.warn(
                f"{_WARN_AFTER} training steps without update_codebook(): the codes have not "
                "moved. With defer_update=True, call it after each optimizer.step(); without "
                "gradient accumulation or checkpointing, leave defer_update out.",
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        estimator = getattr(self.estimator, "__name__", self.estimator)
        return f"estimator={estimator}, channel_dim={self.channel_dim}"


def _refuse_transforms() -> None:
    """Refuse training under `torch.func`.

    Raises:
        UserError: this is such a transform.
    """
    if transformed():
        raise UserError(
            "torch.func: expected a quantizer in evaluation mode, because training changes the "
            "codebook in place; got one in training mode. Call eval() on it: gradients still flow."
        )
