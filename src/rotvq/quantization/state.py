"""The codebook's state: buffers that decide, however their values came; saving, loading, moving.

Symbols as in `codebook`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rotvq.errors import UserError
from rotvq.quantization.statistics import sum_dtype
from rotvq.quantization.updates import EMA, LinearMap, Restart, Update

Init = Literal["uniform", "data"]


class CodebookState(nn.Module):
    """What a `Codebook` holds, which has its arguments and errors.

    Its decisions follow buffers and parameters alone: codes that are copied or loaded into them,
    or broadcast by a wrapper, are those of the next step.
    """

    embeddings: Tensor
    cluster_size: Tensor
    embed_sum: Tensor
    idle: Tensor
    initialized: Tensor
    shard: Tensor | None = None
    """This process's part of codes that FSDP2 shards, as far as it did."""

    def __init__(
        self,
        size: int,
        dim: int,
        update: Update | None = None,
        init: Init = "uniform",
        restart: Restart | None = None,
    ) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise UserError(f"codebook: expected size >= 1 and dim >= 1; got {size} and {dim}.")
        if init not in ("uniform", "data"):
            raise UserError(f"init: expected 'uniform' or 'data'; got {init!r}.")
        if restart and isinstance(update, LinearMap):
            raise UserError(
                "restart: expected none for LinearMap, whose codes move as a whole; got "
                f"{restart}. Leave it out, or use the update EMA."
            )
        self.update = update if update is not None else EMA()
        self.init = init
        self.restart = restart
        zeros = partial(torch.zeros, dtype=torch.float32)
        self.update.hold(self, zeros(size, dim))
        self.register_buffer("cluster_size", zeros(size))
        self.register_buffer("embed_sum", zeros(size, dim))
        self.register_buffer("idle", torch.zeros(size, dtype=torch.int64))
        # 0 or 1, in a dtype that averages of models and copies of floating buffers take along.
        self.register_buffer("initialized", zeros(()))
        # What `ready` has read, and of which tensor in which version.
        self._ready, self._read = init == "uniform", (0, 0)
        self._agreed = False
        self._held = self._owed = False
        self.reset_parameters()

    def __len__(self) -> int:
        return self.embeddings.shape[0]

    def extra_repr(self) -> str:
        return (
            f"{len(self)}, {self.embeddings.shape[1]}, update={self.update}, restart={self.restart}"
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start again: uniform codes in ±1/k without counts, that wait for data if init says so."""
        bound = 1 / len(self)
        self.update.place(self, torch.empty_like(self.embed_sum).uniform_(-bound, bound))
        for statistic in (self.cluster_size, self.embed_sum, self.idle):
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
        now = (0, 0) if flag.is_cpu else (flag.data_ptr(), flag._version)
        if flag.is_cpu or not self._ready or now != self._read:
            self._ready, self._read = bool(flag), now
        return self._ready

    def _empty(self) -> None:
        """Forget what this process has gathered since the last update.

        It is in no buffers: between steps there is nothing to save, and DistributedDataParallel
        must not overwrite it.
        """
        held = len(self) if self.restart is not None else 0
        device = self.cluster_size.device
        zeros = partial(torch.zeros, device=device)
        self.n = zeros(len(self), dtype=sum_dtype(device))
        self.s = zeros(self.embed_sum.shape, dtype=sum_dtype(device))
        self.candidates = zeros(held, self.embed_sum.shape[1], dtype=torch.float32)
        self.priority = zeros(held, dtype=torch.float32) - torch.inf

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
        if name == "embeddings" and hasattr(value, "full_tensor"):
            self.__dict__["shard"] = value
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        # Parametrizing gave it a class of its own, which pickle does not find by name.
        arguments = (len(self), self.embed_sum.shape[1], self.update, self.init, self.restart)
        return type(self).__bases__[0], arguments, self.__dict__

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CodebookState:
        """Follow the model to another device, never to another precision."""

        def keep_dtype(t: Tensor) -> Tensor:
            moved = fn(t)
            return moved if moved.dtype == t.dtype else t.to(moved.device)

        super()._apply(keep_dtype, recurse)
        if self.n.device != self.cluster_size.device:
            self._empty()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        state, prefix = args[:2]
        mapped = parametrize.is_parametrized(self, "embeddings")
        codes = state.get(
            prefix + ("parametrizations.embeddings.original" if mapped else "embeddings")
        )
        flag = f"{prefix}initialized"
        if codes is None or codes.shape != self.embed_sum.shape:
            # Codes that do not come are not there, whatever the state says.
            if flag in state:
                state[flag] = self.initialized
            super()._load_from_state_dict(*args, **kwargs)
            return
        state[flag] = state.get(flag, torch.ones((), device=codes.device)).float()
        # States saved before ages were kept have none.
        state.setdefault(f"{prefix}idle", torch.zeros_like(self.idle, device=codes.device))
        super()._load_from_state_dict(*args, **kwargs)
        if f"{prefix}cluster_size" not in state:  # those of other codes
            self.cluster_size.zero_()
            self.embed_sum.zero_()
        self._read = (0, 0)
        self._ready = self.ready
        self._empty()
