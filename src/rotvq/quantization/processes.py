"""Communication between the processes of a training run, and access to sharded tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rotvq.errors import UserError

_alone = False


def several() -> bool:
    """Whether this process is one of several in a process group."""
    return (
        not _alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    )


@contextmanager
def alone() -> Iterator[None]:
    """Do not communicate: each process keeps its own codebook."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def of_each(value: Tensor) -> Tensor:
    """The tensors of all processes, stacked along a new first dimension."""
    if not several():
        return value.unsqueeze(0)
    values = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(values, value.contiguous())
    return torch.stack(values)


def drawn(number: int, device: torch.device) -> Tensor:
    """Uniform random numbers in [0, 1).

    Together, processes with generators in the same state draw what a single process would.
    """
    if not several():
        return torch.rand(number, device=device)
    first = dist.get_rank() * number
    return torch.rand(dist.get_world_size() * number, device=device)[first : first + number]


def refuse_join() -> None:
    """Refuse a `Join` that lets processes finish early, as the others would wait for them.

    Raises:
        UserError: the forward pass of a DistributedDataParallel runs inside such a `Join`.
    """
    wrapper = getattr(DistributedDataParallel, "_active_ddp_module", None)
    join = getattr(wrapper, "_join_config", None)
    if join is not None and join.enable and not join.throw_on_early_termination:
        raise UserError(
            "Join: expected the same number of steps in all processes, because every step sums the "
            "codebook's statistics over them; got a Join that lets some finish early. Pass "
            "throw_on_early_termination=True to Join, or drop the last steps."
        )


def whole(t: Tensor) -> Tensor:
    """A tensor sharded by FSDP2, gathered from all processes; any other tensor unchanged."""
    gathered: Tensor = t.full_tensor() if hasattr(t, "full_tensor") else t
    return gathered


def put(t: Tensor, value: Tensor) -> None:
    """Write a value that is the same in all processes into a tensor, or this process's shard of it.

    Raises:
        UserError: t belongs to a flat parameter of FSDP1, which would discard the value.
    """
    if getattr(t, "_fsdp_flattened", False) or not t.is_leaf:
        raise UserError(
            "FullyShardedDataParallel: expected codes that k-means or a restart can write; got "
            "codes inside a flat parameter, which discards what is written. Use fully_shard "
            "(FSDP2), or update=EMA(), whose codes are not sharded."
        )
    if hasattr(t, "full_tensor"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        shard = cast(DTensor, t)
        # Without a source rank, each process takes its shard from its own copy of the value.
        value = distribute_tensor(value, shard.device_mesh, shard.placements, src_data_rank=None)
    t.copy_(value)
