"""The codebook's state and its life: statistics, updates, data init, restart of dead codes.

Symbols: e (k, d) the codes; N (k,) and m (k, d) the moving count and sum of the vectors that chose
each code (eqs. 3-5); idle (k,) the steps since a code was last chosen; γ the decay. What is not a
count of steps is float32, whatever the model's precision.

A step is: `gather` for every micro-batch, then `update` once. So gradient accumulation moves the
codebook as one large batch does, and processes exchange their sums once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.rules import EMA, LinearMap, Restart, Rule
from rotvq.quantization.search import nearest
from rotvq.quantization.statistics import add_up

Init = Literal["uniform", "data"]

LARGEST = 1e29
"""A vector with a larger element (or nan) stays out of the statistics: its sum could overflow."""

KMEANS_STEPS = 10
KMEANS_VECTORS = 64
"""Vectors a code that k-means looks at, at most."""


class Codebook(nn.Module):
    """The codes with their statistics.

    Args:
        size: number of codes k.
        dim: their length d.
        rule: how they move.
        init: "uniform" in ±1/k as the paper's released code has it, or "data": k-means over the
            first batch.
        restart: when dead codes move to encoder outputs; None lets them lie, as the paper does.

    Raises:
        UserError: size or dim below 1, an unknown init, or a restart of codes that move as a whole.
    """

    e: Tensor
    N: Tensor
    m: Tensor
    idle: Tensor
    initialized: Tensor

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
        self.restart = restart
        zeros = partial(torch.zeros, dtype=torch.float32)
        self.rule.hold(self, zeros(size, dim).uniform_(-1 / size, 1 / size))
        self.register_buffer("N", zeros(size))
        self.register_buffer("m", zeros(size, dim))
        self.register_buffer("idle", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("initialized", torch.tensor(init == "uniform"))
        self._empty()
        # A plain bool beside the buffer: reading a tensor would stall a device and break a graph.
        self.ready = init == "uniform"

    def __len__(self) -> int:
        return self.e.shape[0]

    def extra_repr(self) -> str:
        return f"{len(self)}, {self.e.shape[1]}, rule={self.rule}, restart={self.restart}"

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
        add_up(self.n, self.s, z, indices, valid)
        if self.restart is not None:
            # A sample over all micro-batches without replacement: those with the highest log(u)/w
            # stay (Efraimidis and Spirakis, doi 10.1016/j.ipl.2005.11.003).
            priority = _drawn(len(z), z.device).log()
            if self.restart.draw == "error":
                priority = priority / (z - self.e[indices]).square().sum(1)
            priority = priority.where(valid, -torch.inf)
            highest, kept = torch.cat([self.priority, priority]).topk(len(self))
            self.priority.copy_(highest)
            self.candidates.copy_(torch.cat([self.candidates, z])[kept])

    @torch.no_grad()
    def update(self) -> None:
        """One step of the rule over all that was gathered, in all processes; then restarts."""
        self._reduce()
        self.idle.add_(1).masked_fill_(self.n > 0, 0)
        self.rule.step(self, self.n, self.s)
        if self.restart is not None:
            self._restart_dead(self.restart)
            self.priority.fill_(-torch.inf)
        self.n.zero_()
        self.s.zero_()

    @torch.no_grad()
    def initialize(self, z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"] | None = None) -> None:
        """Put the codes where the data is: k-means over vectors of the first batch.

        N and m start from the clusters found, so the first EMA step moves nothing that it should
        not. Draws from torch's global generator. With fewer vectors than codes, the rest of the
        codes are slightly displaced copies. Without a usable vector nothing moves, and the next
        batch will do. Of several processes, the one with the most usable vectors decides.

        Args:
            z: encoder vectors of one step.
            valid: False for vectors to leave out.
        """
        z, valid = _usable(z, z.new_ones(len(z), dtype=torch.bool) if valid is None else valid)
        found = _gathered(valid.sum())
        # A compiled graph cannot ask; it takes the first batch as usable.
        if not torch.compiler.is_compiling() and not found.any():
            return
        if len(z):
            self._cluster(z, valid)
        if _distributed():
            source = int(found.argmax())
            e = self.e.contiguous()
            dist.broadcast(self.N, src=source)
            dist.broadcast(e, src=source)
            self.rule.place(self, e)
            self.N *= found.sum() / found.max()
        self.m.copy_(self.N.unsqueeze(1) * self.e)
        self.initialized.fill_(True)
        self.ready = True

    def _cluster(self, z: Tensor, valid: Tensor) -> None:
        priority = torch.rand_like(z[:, 0]).where(valid, -1.0)
        kept = priority.topk(min(len(z), KMEANS_VECTORS * len(self))).indices
        z, valid = z[kept], valid[kept]
        number = valid.sum()
        place = torch.arange(len(self), device=z.device)
        # Sampled without replacement; the valid ones come first.
        e = z[place % number.clamp_min(1)]
        spread = z.std(0, correction=0) / 100
        e = e + (place >= number).unsqueeze(1) * spread * torch.randn_like(e)
        for _ in range(KMEANS_STEPS):
            indices = nearest(z, e)
            n, s = torch.zeros_like(self.n), torch.zeros_like(self.s)
            add_up(n, s, z, indices, valid)
            e = torch.where((n > 0).unsqueeze(1), s / n.clamp_min(1.0).unsqueeze(1), e)
        # Only a compiled graph comes here without a valid vector.
        some = valid.any()
        self.N.copy_(torch.where(some, n, self.N))
        self.rule.place(self, torch.where(some, e, self.e))

    def _empty(self) -> None:
        """Forget what this process has gathered since the last update.

        It is in no buffers: between steps there is nothing to save, and DistributedDataParallel
        must not overwrite it.
        """
        held = len(self) if self.restart is not None else 0
        zeros = partial(torch.zeros, dtype=torch.float32, device=self.e.device)
        self.n, self.s = zeros(len(self)), zeros(self.e.shape)
        self.candidates, self.priority = zeros(held, self.e.shape[1]), zeros(held) - torch.inf

    def _restart_dead(self, restart: Restart) -> None:
        dead = self.N < restart.threshold * self.N.mean()
        rank = dead.cumsum(0) - 1
        move = dead & (rank < (self.priority > -torch.inf).sum())
        fresh = self.candidates[rank.clamp(0, len(self) - 1)]
        self.e.copy_(torch.where(move.unsqueeze(1), fresh, self.e))
        # n̄ is what the mean N tends to; early on it is still far below.
        steady = torch.maximum(self.N.mean(), self.n.mean())
        self.N.copy_(torch.where(move, restart.grace * restart.threshold * steady, self.N))
        self.m.copy_(torch.where(move.unsqueeze(1), self.N.unsqueeze(1) * self.e, self.m))
        self.idle.masked_fill_(move, 0)

    def _reduce(self) -> None:
        """Sum over all processes, and keep of their candidates those that one would have kept."""
        if not _distributed():
            return
        chosen = self.candidates if self.restart is None else self._chosen_of_all()
        sums = torch.cat([self.n, self.s.flatten(), chosen.flatten()])
        dist.all_reduce(sums)
        n, s, chosen = sums.split([self.n.numel(), self.s.numel(), chosen.numel()])
        self.n.copy_(n)
        self.s.copy_(s.view_as(self.s))
        self.candidates.copy_(chosen.view_as(self.candidates))

    def _chosen_of_all(self) -> Tensor:
        """This process's part of the candidates that are kept of all, in their places; else zeros.

        So what is sent does not grow with the number of processes.
        """
        every = [torch.empty_like(self.priority) for _ in range(dist.get_world_size())]
        dist.all_gather(every, self.priority)
        highest, place = torch.cat(every).topk(len(self))
        self.priority.copy_(highest)
        place = place - dist.get_rank() * len(self)
        ours = (place >= 0) & (place < len(self))
        return torch.where(ours.unsqueeze(1), self.candidates[place.clamp(0, len(self) - 1)], 0.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Codebook:
        """Follow the model to another device, never to another precision."""

        def keep_dtype(t: Tensor) -> Tensor:
            moved = fn(t)
            return moved if moved.dtype == t.dtype else t.to(moved.device)

        super()._apply(keep_dtype, recurse)
        if self.n.device != self.e.device:
            self._empty()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        state, prefix = args[:2]
        # States saved before ages were kept have none.
        state.setdefault(f"{prefix}idle", torch.zeros_like(self.idle))
        super()._load_from_state_dict(*args, **kwargs)
        self.ready = bool(self.initialized)


def _usable(z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """z in float32 with the vectors left out as zeros, and which are left."""
    z = z.float()
    valid = valid & (torch.maximum(z.amax(1), -z.amin(1)) < LARGEST)
    if z.device.type == "cpu" and not torch.compiler.is_compiling() and valid.all():
        return z, valid
    return torch.where(valid.unsqueeze(1), z, 0.0), valid


def _drawn(number: int, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1). Processes with generators alike draw what one process would."""
    if not _distributed():
        return torch.rand(number, device=device)
    first = dist.get_rank() * number
    return torch.rand(dist.get_world_size() * number, device=device)[first : first + number]


def _gathered(value: Tensor) -> Tensor:
    """A scalar of each process, as a vector."""
    if not _distributed():
        return value.unsqueeze(0)
    values = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(values, value)
    return torch.stack(values)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
