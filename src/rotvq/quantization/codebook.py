"""The codebook's state and its life: statistics, updates, data init, restart of dead codes.

Symbols: e (k, d) the codes; N (k,) and m (k, d) the moving count and sum of the vectors that chose
each code (eqs. 3-5); idle (k,) the steps since a code was last chosen; γ the decay. What is not a
count of steps is float32, whatever the model's precision.

A step is: `accumulate` for every micro-batch, then `step` once. So gradient accumulation moves the
codebook as one large batch does, and processes exchange their sums once.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization.kmeans import kmeans
from rotvq.quantization.processes import drawn, of_each, refuse_join, several, whole
from rotvq.quantization.state import CodebookState
from rotvq.quantization.statistics import add_up, first_of_equals, squared_error
from rotvq.quantization.updates import Restart

LARGEST = 1e29
"""A vector with a larger element (or nan) stays out of the statistics: its sum could overflow."""

SAME = 2.0**-18
"""A vector is a code already if it is this close to it, as a share of its own length: a moving
average of equal vectors comes no closer in float32."""


class Codebook(CodebookState):
    """The codes with their statistics.

    Args:
        size: number of codes k.
        dim: their length d.
        update: how they move.
        init: "uniform" in ±1/k as the paper's released code has it, or "data": k-means over the
            first batch.
        restart: when dead codes move to encoder outputs; None disables restarts, as in the paper.

    Raises:
        UserError: size or dim below 1, an unknown init, or a restart of codes that move as a whole.
    """

    @torch.no_grad()
    def set_codes(
        self, codes: Float[Tensor, "k d"], weight: float | Float[Tensor, " k"] = 1.0
    ) -> None:
        """Take codes from elsewhere, with counts.

        Call it in every process. What was gathered is discarded, and `init="data"` is satisfied.

        Args:
            codes: e, any floating dtype.
            weight: N of each code: for how many vectors a step it stands. A step with n vectors
                moves it (1−γ)n / (γ·weight + (1−γ)n) of the way to their mean: 1−γ where n equals
                the weight. One number, or one for each code.

        Raises:
            UserError: codes of another shape or not finite, or a weight that is not above 0.
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
        codes = codes.detach().to(self.embed_sum)
        self.update.place(self, codes)
        self.cluster_size.copy_(weight)
        self.embed_sum.copy_(self.cluster_size.unsqueeze(1) * codes)
        self.idle.zero_()
        self.initialized.fill_(1.0)
        self._empty()

    @torch.no_grad()
    def prepare(self, z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"] | None = None) -> None:
        """Before a step's first search: agree with other processes, and place codes if they wait.

        Args:
            z: encoder vectors of the step.
            valid: False for vectors to leave out.

        Raises:
            UserError: the model runs within a `Join` that lets processes leave.
        """
        self._keep_float32()
        if several() and not torch.compiler.is_compiling():
            refuse_join()
            if not self._agreed:
                self._agree()
        if not self.ready:
            self.initialize(z, valid)

    @torch.no_grad()
    def accumulate(
        self, z: Float[Tensor, "n d"], indices: Int64[Tensor, " n"], valid: Bool[Tensor, " n"]
    ) -> None:
        """Add a micro-batch to what the next `step` will use.

        Args:
            z: encoder vectors. One with an element that is not finite or beyond 1e29 is left out.
            indices: the code of each.
            valid: False for vectors to leave out.
        """
        z, valid = _usable(z, valid)
        if self.n.device != z.device:
            self._empty()
        add_up(self.n, self.s, z, indices, valid)
        if self.restart is not None:
            self._draw_candidates(self.restart, z, indices, valid)

    @torch.no_grad()
    def step(self) -> None:
        """One step of the update over all that was gathered, in all processes; then restarts."""
        if self._held:
            self._owed = True
            return
        self._keep_float32()
        n, s = self.n.float(), self.s.float()
        if several():
            n, s = self._of_all(n, s)
        self.idle.add_(1).masked_fill_(n > 0, 0)
        self.update.step(self, n, s)
        if self.restart is not None:
            self._restart_dead(self.restart, n)
            self.priority.fill_(-torch.inf)
        self.n.zero_()
        self.s.zero_()

    @torch.no_grad()
    def initialize(self, z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"] | None = None) -> None:
        """Put the codes where the data is: k-means over vectors of the first batch.

        N and m start from the clusters found, so the first EMA step moves nothing that it should
        not. Without a usable vector nothing moves, and the next batch will do. Of several
        processes, the one with the most usable vectors decides. Within a compiled graph it moves
        only codes that `initialized` says still wait.

        Args:
            z: encoder vectors of one step.
            valid: False for vectors to leave out.
        """
        z, valid = _usable(z, z.new_ones(len(z), dtype=torch.bool) if valid is None else valid)
        found = of_each(valid.sum())
        if not torch.compiler.is_compiling() and not found.any():
            return
        e, n = whole(self.embeddings).clone(), self.cluster_size.clone()
        if len(z):
            e_found, n_found = kmeans(z, valid, len(self))
            if torch.compiler.is_compiling():  # a graph cannot ask
                wanted = valid.any() & (self.initialized == 0)
                e_found, n_found = e_found.where(wanted, e), n_found.where(wanted, n)
            e, n = e_found, n_found
        if several():
            source = int(found.argmax())
            dist.broadcast(n, src=source)
            dist.broadcast(e, src=source)
            n *= found.sum() / found.max()
        self.update.place(self, e)
        self.cluster_size.copy_(n)
        self.embed_sum.copy_(n.unsqueeze(1) * e)
        self.initialized.copy_(self.initialized.maximum(found.any().float()))
        self._ready = True

    def _agree(self) -> None:
        """Give all processes the codes of one, where others wait for data.

        That is so where one process alone has loaded a state.
        """
        ready = of_each(self.initialized) != 0
        if ready.any() and not ready.all():
            source = int(ready.nonzero()[0])
            e = whole(self.embeddings).detach().clone()
            for t in (e, self.cluster_size, self.embed_sum, self.idle, self.initialized):
                dist.broadcast(t, src=source)
            self.update.place(self, e)
        self._agreed = bool(ready.any())

    def _draw_candidates(self, restart: Restart, z: Tensor, indices: Tensor, valid: Tensor) -> None:
        # A sample over all micro-batches without replacement: those with the highest log(u)/w
        # stay (Efraimidis and Spirakis, doi 10.1016/j.ipl.2005.11.003).
        priority = drawn(len(z), z.device).log()
        error = squared_error(z, self.embeddings, indices)
        if restart.draw == "error":
            priority = priority / error
        # A second code is worth nothing where there is one already, nor at the same new place.
        apart = valid & (error > SAME**2 * z.square().sum(1))
        priority = priority.where(apart, -torch.inf)
        # Twice as many as can be kept leave enough that differ, and take little time to compare.
        priority, sample = priority.topk(min(len(z), 2 * len(self)))
        z = z[sample]
        fresh = first_of_equals(z, priority > -torch.inf)
        priority = torch.cat([self.priority, priority.where(fresh, -torch.inf)])
        highest, kept = priority.topk(len(self))
        self.priority.copy_(highest)
        self.candidates.copy_(torch.cat([self.candidates, z])[kept])

    def _restart_dead(self, restart: Restart, n: Tensor) -> None:
        e = whole(self.embeddings)
        dead = restart.dead(self.cluster_size)
        rank = dead.cumsum(0) - 1
        # Several micro-batches and processes may have drawn equal vectors.
        fresh = first_of_equals(self.candidates, self.priority > -torch.inf)
        candidates = self.candidates[fresh.logical_not().byte().argsort(stable=True)]
        move = dead & (rank < fresh.sum())
        e = torch.where(move.unsqueeze(1), candidates[rank.clamp(0, len(e) - 1)], e)
        self.update.place(self, e)
        # n̄ is what the mean N tends to; early on it is still far below.
        steady = torch.maximum(self.cluster_size.mean(), n.mean())
        self.cluster_size.copy_(
            torch.where(move, restart.grace * restart.threshold * steady, self.cluster_size)
        )
        self.embed_sum.copy_(
            torch.where(move.unsqueeze(1), self.cluster_size.unsqueeze(1) * e, self.embed_sum)
        )
        self.idle.masked_fill_(move, 0)

    def _of_all(self, n: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over all processes; and of their candidates those that one would have kept."""
        chosen = self.candidates if self.restart is None else self._chosen_of_all()
        sums = torch.cat([n, s.flatten(), chosen.flatten()])
        dist.all_reduce(sums)
        n, s_flat, chosen = sums.split([n.numel(), s.numel(), chosen.numel()])
        self.candidates.copy_(chosen.view_as(self.candidates))
        return n, s_flat.view_as(s)

    def _chosen_of_all(self) -> Tensor:
        """This process's part of the candidates that are kept of all, in their places; else zeros.

        So what is sent does not grow with the number of processes.
        """
        highest, place = of_each(self.priority).flatten().topk(len(self))
        self.priority.copy_(highest)
        place = place - dist.get_rank() * len(self)
        ours = (place >= 0) & (place < len(self))
        return torch.where(ours.unsqueeze(1), self.candidates[place.clamp(0, len(self) - 1)], 0.0)


def _usable(z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """z in float32 with the vectors left out as zeros, and which are left."""
    z = z.float()
    valid = valid & (torch.maximum(z.amax(1), -z.amin(1)) < LARGEST)
    if z.device.type == "cpu" and not torch.compiler.is_compiling() and valid.all():
        return z, valid
    return torch.where(valid.unsqueeze(1), z, 0.0), valid
