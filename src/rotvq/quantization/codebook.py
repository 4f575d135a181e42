"""The codebook's state and its life: statistics, updates, data init, restart of dead codes.

Symbols: e (k, d) the codes; N (k,) and m (k, d) the moving count and sum of the vectors that chose
each code (eqs. 3-5); idle (k,) the steps since a code was last chosen; γ the decay. What is not a
count of steps is float32, whatever the model's precision.

A step is: `gather` for every micro-batch, then `update` once. So gradient accumulation moves the
codebook as one large batch does, and processes exchange their sums once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rotvq.errors import UserError
from rotvq.quantization.kmeans import kmeans
from rotvq.quantization.processes import drawn, of_each, refuse_join, several, whole
from rotvq.quantization.rules import EMA, LinearMap, Restart, Rule
from rotvq.quantization.statistics import add_up, first_of_equals, sum_dtype

Init = Literal["uniform", "data"]

LARGEST = 1e29
"""A vector with a larger element (or nan) stays out of the statistics: its sum could overflow."""

SAME = 2.0**-18
"""A vector is a code already if it is this close to it, as a share of its own length: a moving
average of equal vectors comes no closer in float32."""


class Codebook(nn.Module):
    """The codes with their statistics.

    Buffers and parameters are all that decides: codes that are copied or loaded into them, or
    broadcast by a wrapper, are those of the next step.

    Args:
        size: number of codes k.
        dim: their length d.
        rule: how they move.
        init: "uniform" in ±1/k as the paper's released code has it, or "data": k-means over the
            first batch.
        restart: when dead codes move to encoder outputs; None disables restarts, as in the paper.

    Raises:
        UserError: size or dim below 1, an unknown init, or a restart of codes that move as a whole.
    """

    e: Tensor
    N: Tensor
    m: Tensor
    idle: Tensor
    initialized: Tensor
    shard: Tensor | None = None
    """This process's part of codes that FSDP2 shards, as far as it did."""

    def __init__(
        self,
        size: int,
        dim: int,
        rule: Rule | None = None,
        init: Init = "uniform",
        restart: Restart | None = None,
    ) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise UserError(f"codebook: expected size >= 1 and dim >= 1; got {size} and {dim}.")
        if init not in ("uniform", "data"):
            raise UserError(f"init: expected 'uniform' or 'data'; got {init!r}.")
        if restart and isinstance(rule, LinearMap):
            raise UserError(
                "restart: expected none for LinearMap, whose codes move as a whole; got "
                f"{restart}. Leave it out, or use the rule EMA."
            )
        self.rule = rule if rule is not None else EMA()
        self.init = init
        self.restart = restart
        zeros = partial(torch.zeros, dtype=torch.float32)
        self.rule.hold(self, zeros(size, dim))
        self.register_buffer("N", zeros(size))
        self.register_buffer("m", zeros(size, dim))
        self.register_buffer("idle", torch.zeros(size, dtype=torch.int64))
        # 0 or 1, in a dtype that averages of models and copies of floating buffers take along.
        self.register_buffer("initialized", zeros(()))
        # What `ready` has read, and of which tensor in which version.
        self._ready, self._read = init == "uniform", (0, 0)
        self._agreed = False
        self._held = self._owed = False
        self.reset_parameters()

    def __len__(self) -> int:
        return self.e.shape[0]

    def extra_repr(self) -> str:
        return f"{len(self)}, {self.e.shape[1]}, rule={self.rule}, restart={self.restart}"

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start again: uniform codes in ±1/k without counts, that wait for data if init says so."""
        bound = 1 / len(self)
        self.rule.place(self, torch.empty_like(self.m).uniform_(-bound, bound))
        for statistic in (self.N, self.m, self.idle):
            statistic.zero_()
        self.initialized.fill_(self.init == "uniform")
        self._empty()

    @property
    def ready(self) -> bool:
        """Whether the codes have been placed, as `initialized` says.

        On another device than the processor it is read again only after it may have changed, as
        reading stalls the device. A compiled graph takes what was read last.
        """
        flag = self.initialized
        if torch.compiler.is_compiling() or flag.is_meta:
            return self._ready
        if flag.is_cpu:
            return bool(flag)
        now = (flag.data_ptr(), flag._version)
        if not self._ready or now != self._read:
            self._ready, self._read = bool(flag), now
        return self._ready

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
        weight = torch.as_tensor(weight, dtype=torch.float32, device=self.N.device)
        if codes.shape != self.m.shape or not codes.isfinite().all():
            raise UserError(
                f"codes: expected finite numbers of shape {tuple(self.m.shape)}; got shape "
                f"{tuple(codes.shape)}{'' if codes.isfinite().all() else ' with nan or inf'}."
            )
        if weight.shape not in ((), self.N.shape) or not (0 < weight).all():
            raise UserError(
                f"weight: expected a count above 0, or {len(self)} of them; got {weight}."
            )
        self._keep_float32()
        codes = codes.detach().to(self.m)
        self.rule.place(self, codes)
        self.N.copy_(weight)
        self.m.copy_(self.N.unsqueeze(1) * codes)
        self.idle.zero_()
        self.initialized.fill_(1.0)
        self._empty()

    @torch.no_grad()
    def prepare(self, z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"] | None = None) -> None:
        """Before a step's first search: agree with other processes, and place codes if they wait.

        Args:
            z: encoder vectors of the step.
            valid: False for vectors to leave out.
        """
        self._keep_float32()
        if several() and not self._agreed and not torch.compiler.is_compiling():
            self._agree()
        if not self.ready:
            self.initialize(z, valid)

    @torch.no_grad()
    def gather(
        self, z: Float[Tensor, "n d"], indices: Int64[Tensor, " n"], valid: Bool[Tensor, " n"]
    ) -> None:
        """Add a micro-batch to what the next `update` will use.

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
            # A sample over all micro-batches without replacement: those with the highest log(u)/w
            # stay (Efraimidis and Spirakis, doi 10.1016/j.ipl.2005.11.003).
            priority = drawn(len(z), z.device).log()
            error = (z - self.e[indices]).square().sum(1)
            if self.restart.draw == "error":
                priority = priority / error
            # A code is worth nothing where there is one already, nor two at one place.
            apart = valid & (error > SAME**2 * z.square().sum(1))
            priority = priority.where(first_of_equals(z, apart), -torch.inf)
            highest, kept = torch.cat([self.priority, priority]).topk(len(self))
            self.priority.copy_(highest)
            self.candidates.copy_(torch.cat([self.candidates, z])[kept])

    @torch.no_grad()
    def update(self) -> None:
        """One step of the rule over all that was gathered, in all processes; then restarts.

        Raises:
            UserError: the model runs within a `Join` that lets processes leave.
        """
        if self._held:
            self._owed = True
            return
        self._keep_float32()
        n, s = self.n.float(), self.s.float()
        if several():
            refuse_join()
            n, s = self._of_all(n, s)
        self.idle.add_(1).masked_fill_(n > 0, 0)
        self.rule.step(self, n, s)
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
        e, n = whole(self.e).clone(), self.N.clone()
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
        self.rule.place(self, e)
        self.N.copy_(n)
        self.m.copy_(n.unsqueeze(1) * e)
        self.initialized.copy_(self.initialized.maximum(found.any().float()))
        self._ready = True

    def _agree(self) -> None:
        """Where some processes have codes and others wait for data, all take those of the first.

        So it is where one process alone loaded a state.
        """
        ready = of_each(self.initialized) != 0
        if ready.any() and not ready.all():
            source = int(ready.nonzero()[0])
            e = whole(self.e).detach().clone()
            for t in (e, self.N, self.m, self.idle, self.initialized):
                dist.broadcast(t, src=source)
            self.rule.place(self, e)
        self._agreed = bool(ready.any())

    def _empty(self) -> None:
        """Forget what this process has gathered since the last update.

        It is in no buffers: between steps there is nothing to save, and DistributedDataParallel
        must not overwrite it.
        """
        held = len(self) if self.restart is not None else 0
        device = self.N.device
        zeros = partial(torch.zeros, device=device)
        self.n = zeros(len(self), dtype=sum_dtype(device))
        self.s = zeros(self.m.shape, dtype=sum_dtype(device))
        self.candidates = zeros(held, self.m.shape[1], dtype=torch.float32)
        self.priority = zeros(held, dtype=torch.float32) - torch.inf

    def _restart_dead(self, restart: Restart, n: Tensor) -> None:
        e = whole(self.e)
        dead = restart.dead(self.N)
        rank = dead.cumsum(0) - 1
        # Micro-batches and processes may hold one vector each, or one that has become a code.
        drawn = torch.cat([dead.new_ones(len(e)), self.priority > -torch.inf])
        fresh = first_of_equals(torch.cat([e, self.candidates]), drawn)[len(e) :]
        candidates = self.candidates[fresh.logical_not().byte().argsort(stable=True)]
        move = dead & (rank < fresh.sum())
        e = torch.where(move.unsqueeze(1), candidates[rank.clamp(0, len(e) - 1)], e)
        self.rule.place(self, e)
        # n̄ is what the mean N tends to; early on it is still far below.
        steady = torch.maximum(self.N.mean(), n.mean())
        self.N.copy_(torch.where(move, restart.grace * restart.threshold * steady, self.N))
        self.m.copy_(torch.where(move.unsqueeze(1), self.N.unsqueeze(1) * e, self.m))
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

    def _keep_float32(self) -> None:
        """Take buffers back to float32 that a wrapper stored in less, as FSDP1's MixedPrecision.

        In bfloat16 an average would stand still: its steps are smaller than what is rounded away.
        """
        for module in self.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.dtype in (torch.bfloat16, torch.float16):
                    module._buffers[name] = buffer.float()

    def __setattr__(self, name: str, value: Any) -> None:
        # FSDP2 sets the shard, and around a forward pass the whole in its place.
        if name == "e" and hasattr(value, "full_tensor"):
            self.__dict__["shard"] = value
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        # Parametrizing gave it a class of its own, which pickle does not find by name.
        arguments = (len(self), self.m.shape[1], self.rule, self.init, self.restart)
        return Codebook, arguments, self.__dict__

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Codebook:
        """Follow the model to another device, never to another precision."""

        def keep_dtype(t: Tensor) -> Tensor:
            moved = fn(t)
            return moved if moved.dtype == t.dtype else t.to(moved.device)

        super()._apply(keep_dtype, recurse)
        if self.n.device != self.N.device:
            self._empty()
        return self

    def _load_from_state_dict(
        self, state: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        codes = state.get(f"{prefix}e", state.get(f"{prefix}parametrizations.e.original"))
        flag = f"{prefix}initialized"
        if codes is None or codes.shape != self.m.shape:
            # Codes that do not come are not there, whatever the state says.
            if flag in state:
                state[flag] = self.initialized
            super()._load_from_state_dict(state, prefix, *args, **kwargs)
            return
        state[flag] = torch.as_tensor(state.get(flag, 1.0), dtype=torch.float32)
        # States saved before ages were kept have none.
        state.setdefault(f"{prefix}idle", torch.zeros_like(self.idle, device=codes.device))
        super()._load_from_state_dict(state, prefix, *args, **kwargs)
        if f"{prefix}N" not in state:  # those of other codes
            self.N.zero_()
            self.m.zero_()
        self._ready = bool(self.initialized)
        self._empty()


@contextmanager
def one_step(module: nn.Module) -> Iterator[None]:
    """Let codebooks within a module wait with `update`, and take one step each at the end."""
    codebooks = [c for c in module.modules() if isinstance(c, Codebook) and not c._held]
    for codebook in codebooks:
        codebook._held, codebook._owed = True, False
    try:
        yield
    finally:
        for codebook in codebooks:
            codebook._held = False
    for codebook in codebooks:
        if codebook._owed:
            codebook.update()


def _usable(z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """z in float32 with the vectors left out as zeros, and which are left."""
    z = z.float()
    valid = valid & (torch.maximum(z.amax(1), -z.amin(1)) < LARGEST)
    if z.device.type == "cpu" and not torch.compiler.is_compiling() and valid.all():
        return z, valid
    return torch.where(valid.unsqueeze(1), z, 0.0), valid
