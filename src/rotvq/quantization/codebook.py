"""The life of a codebook: statistics, updates, initialization from data, restart of dead codes.

A step of training is `accumulate` for every micro-batch, then `step` once. So gradient accumulation
moves the codes exactly as one large batch would, and processes exchange their sums once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization.backend import kernels_for
from rotvq.quantization.kmeans import kmeans
from rotvq.quantization.processes import drawn, of_each, refuse_join, several, whole
from rotvq.quantization.restart import candidates_of
from rotvq.quantization.state import CodebookState
from rotvq.quantization.statistics import add_up

_LARGEST = 1e29
"""A vector with a larger element (or nan) stays out of the statistics: its sum could overflow."""

StepWeight = Tensor | Callable[[Tensor, Tensor], Tensor]
"""A number for each code (k,), or a function of counts n (k,) and sums s (k, d) that returns it."""


class Codebook(CodebookState):
    """The codes of a quantizer and the statistics that move them.

    Args:
        size: number of codes k.
        dim: length d of a code.
        update: how the codes move; by default `EMA()`.
        init: "uniform" in ±1/k as in the paper's released code, or "data": k-means over the first
            batch.
        restart: when dead codes move to encoder outputs; None disables restarts, as in the paper.
        metric: "cosine" keeps all codes at unit length, and expects vectors at unit length.

    Attributes:
        embeddings: the codes e, (k, d). A float32 buffer under `EMA`, a parameter under
            `GradientLearned`, float32 and computed from a parameter under `LinearMap`.
        cluster_size: N, (k,) float32: moving average of the number of vectors that chose each code.
        embed_sum: m, (k, d) float32: moving average of their sum.
        idle: (k,) int64, steps since a code was last chosen.
        initialized: 1 if the codes have been placed, 0 if they wait for data.
        decay: γ of the moving averages.

    Raises:
        UserError: size or dim below 1, an unknown init, or a restart of codes that only move
            together.
    """

    @torch.no_grad()
    def set_codes(
        self, codes: Float[Tensor, "k d"], weight: float | Float[Tensor, " k"] = 1.0
    ) -> None:
        """Set the codes and their counts, for instance from another codebook.

        Call it in every process. Accumulated statistics are discarded, and `init="data"` counts as
        done.

        Args:
            codes: e, any floating dtype.
            weight: N of each code: the number of vectors per step that it stands for. A step with n
                vectors moves it (1−γ)n / (γ·weight + (1−γ)n) of the way to their mean: 1−γ where n
                equals the weight. One number, or one for each code.

        Raises:
            UserError: codes of another shape or not finite, or weights that are not above 0.
        """
        weight = torch.as_tensor(weight, dtype=torch.float32, device=self.cluster_size.device)
        expected = f"codes: expected finite numbers of shape {tuple(self.embed_sum.shape)}"
        if codes.shape != self.embed_sum.shape:
            raise UserError(f"{expected}; got shape {tuple(codes.shape)}.")
        if not codes.isfinite().all():
            raise UserError(f"{expected}; got nan or inf.")
        if weight.shape not in ((), self.cluster_size.shape):
            raise UserError(
                f"weight: expected one number or {len(self)}; got shape {tuple(weight.shape)}."
            )
        if not ((0 < weight) & weight.isfinite()).all():
            raise UserError(f"weight: expected counts above 0; got {weight.min().item()}.")
        self._keep_float32()
        self._place(codes.detach().to(self.embed_sum), weight)
        self.idle.zero_()
        self.initialized.fill_(1.0)
        self._reset_statistics()

    @torch.no_grad()
    def prepare(self, z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"] | None = None) -> None:
        """Before the first search of a step: synchronize processes, and initialize from data.

        Args:
            z: encoder vectors of the step.
            valid: False for vectors to leave out.

        Raises:
            UserError: the model runs inside a `Join` that lets processes finish early.
        """
        self._keep_float32()
        if several() and not torch.compiler.is_compiling():
            refuse_join()
            if not self._agreed:
                self._agree()
        if self.ready:
            return
        if torch.compiler.is_compiling():
            self.initialize(z, valid)
            return
        # Activation checkpointing repeats the pass, without these draws.
        with torch.random.fork_rng([z.device] if z.is_cuda else []):
            self.initialize(z, valid)

    def draw_again(self, z: Float[Tensor, "n d"]) -> None:
        """Draw the random numbers of `accumulate`, so that what follows draws its own again."""
        if self.restart is not None:
            drawn(len(z), z.device)

    @torch.no_grad()
    def accumulate(
        self, z: Float[Tensor, "n d"], indices: Int64[Tensor, " n"], valid: Bool[Tensor, " n"]
    ) -> None:
        """Add a micro-batch to the statistics of the next `step`.

        Args:
            z: encoder vectors. One with an element that is not finite or beyond 1e29 is left out.
            indices: the code that each vector chose.
            valid: False for vectors to leave out.
        """
        z, valid = _usable(z, valid)
        if self._n.device != z.device:
            self._reset_statistics()
        add_up(self._n, self._s, z, indices, valid)
        if self.restart is not None:
            candidates, priority = candidates_of(
                z, self.embeddings, indices, valid, self._candidates, self._priority
            )
            self._candidates.copy_(candidates)
            self._priority.copy_(priority)

    @torch.no_grad()
    def step(self, weight: StepWeight | None = None) -> None:
        """Move the codes by the statistics of all micro-batches and processes; then restart.

        Args:
            weight: scales the step 1 − γ of each code: (k,), or a function of the counts n (k,)
                and sums s (k, d) of the vectors that chose each code.
        """
        if self._held:
            self._owed = True
            return
        self._keep_float32()
        n, s = self._n.float(), self._s.float()
        if several():
            n, s = self._sum_over_processes(n, s)
        self.idle.add_(1).masked_fill_(n > 0, 0)
        if weight is not None:
            weight = weight(n, s) if callable(weight) else weight
            n = self.cluster_size.lerp(n, weight)
            s = self.embed_sum.lerp(s, weight.unsqueeze(1))
        e, N, m = self.update.step(
            self.embeddings, self.cluster_size, self.embed_sum, n, s, self._rate
        )
        if self.metric != "euclidean" and not self.update.learned:
            # What the codes stand for: N vectors at the code itself.
            e = self.project(e)
            m = N.unsqueeze(1) * e
        if self.restart is not None:
            (e, N, m), moved = self.restart.step(
                whole(e), N, m, n, self._candidates, self._priority
            )
            self.idle.masked_fill_(moved, 0)
            self._priority.fill_(-torch.inf)
        if self.restart is not None or not self.update.learned:
            self.storage.write(self, e)
        self.cluster_size.copy_(N)
        self.embed_sum.copy_(m)
        self._n.zero_()
        self._s.zero_()

    @torch.no_grad()
    def initialize(self, z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"] | None = None) -> None:
        """Place the codes by k-means over vectors of the first batch.

        N and m start from the clusters found, so the first EMA step leaves good codes in place.
        Without a usable vector nothing changes, and the next batch is tried. Of several processes,
        the one with the most usable vectors decides. In a compiled graph, only codes that are not
        `initialized` move.

        Args:
            z: encoder vectors of one step.
            valid: False for vectors to leave out.
        """
        z, valid = _usable(z, z.new_ones(len(z), dtype=torch.bool) if valid is None else valid)
        found = of_each(valid.sum())
        if not torch.compiler.is_compiling() and not found.any():
            return
        e, n = whole(self.embeddings).float().clone(), self.cluster_size.clone()
        if len(z):
            e_found, n_found = kmeans(z, valid, len(self), self.project)
            if torch.compiler.is_compiling():  # a graph cannot branch on values
                wanted = valid.any() & (self.initialized == 0)
                e_found, n_found = e_found.where(wanted, e), n_found.where(wanted, n)
            e, n = e_found, n_found
        if several():
            source = int(found.argmax())
            dist.broadcast(n, src=source)
            dist.broadcast(e, src=source)
            n *= found.sum() / found.max()
        self._place(e, n)
        self.initialized.copy_(self.initialized.maximum(found.any().float()))
        self._ready = True

    def _agree(self) -> None:
        """Share the codes of one process with those whose codes wait for data.

        They differ where only some processes loaded a state.
        """
        ready = of_each(self.initialized) != 0
        if ready.any() and not ready.all():
            source = int(ready.nonzero()[0])
            e = whole(self.embeddings).detach().clone()
            for t in (e, self.cluster_size, self.embed_sum, self.idle, self.initialized):
                dist.broadcast(t, src=source)
            self.storage.write(self, e)
        self._agreed = bool(ready.any())

    def _place(self, e: Tensor, N: Tensor) -> None:
        """Put the codes at e, as averages of N vectors each."""
        e = self.project(e)
        self.storage.write(self, e)
        self.cluster_size.copy_(N)
        self.embed_sum.copy_(self.cluster_size.unsqueeze(1) * e)

    def _sum_over_processes(self, n: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the statistics, and keep the candidates that a single process would have kept."""
        chosen = self._candidates if self.restart is None else self._chosen_of_all()
        sums = torch.cat([n, s.flatten(), chosen.flatten()])
        dist.all_reduce(sums)
        n, s_flat, chosen = sums.split([n.numel(), s.numel(), chosen.numel()])
        self._candidates.copy_(chosen.view_as(self._candidates))
        return n, s_flat.view_as(s)

    def _chosen_of_all(self) -> Tensor:
        """Of the candidates that all processes keep, those of this one in their places; else 0.

        So the message does not grow with the number of processes.
        """
        highest, place = of_each(self._priority).flatten().topk(len(self))
        self._priority.copy_(highest)
        place = place - dist.get_rank() * len(self)
        ours = (place >= 0) & (place < len(self))
        return torch.where(ours.unsqueeze(1), self._candidates[place.clamp(0, len(self) - 1)], 0.0)


def _usable(z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """z in float32 with the vectors left out as zeros, and which are left."""
    kernels = kernels_for(z)
    if kernels is not None:
        usable: tuple[Tensor, Tensor] = kernels.usable(z, valid, _LARGEST)
        return usable
    z = z.float()
    valid = valid & (torch.maximum(z.amax(1), -z.amin(1)) < _LARGEST)
    if z.device.type == "cpu" and not torch.compiler.is_compiling() and valid.all():
        return z, valid
    return torch.where(valid.unsqueeze(1), z, 0.0), valid
