"""The state of a codebook: what it holds, and how it is saved, loaded and moved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rotvq.errors import UserError
from rotvq.names import MetricName
from rotvq.quantization._storage import UnitStorage, adopt_unit
from rotvq.quantization.metrics import metric_named
from rotvq.quantization.restart import Restart
from rotvq.quantization.statistics import sum_dtype
from rotvq.quantization.updates import EMA, Update, check_decay

Init = Literal["uniform", "data"]


class CodebookState(nn.Module):
    """The state of a `Codebook`, which documents the arguments and attributes.

    Everything it does follows from buffers and parameters: codes that are copied or loaded into
    them, or broadcast by a wrapper, are those of the next step. What a step has accumulated is in
    no buffer: there is nothing to save between steps, and DistributedDataParallel must not
    overwrite it.
    """

    embeddings: Tensor
    cluster_size: Tensor
    embed_sum: Tensor
    idle: Tensor
    initialized: Tensor
    shard: Tensor | None = None
    """This process's part of the codes, where FSDP2 shards them."""

    def __init__(
        self,
        size: int,
        dim: int,
        update: Update | None = None,
        init: Init = "uniform",
        restart: Restart | None = None,
        metric: MetricName = "euclidean",
    ) -> None:
        super().__init__()
        # By its name, because a function of torch is not what a checkpoint should hold.
        self.metric = metric
        self.project = metric_named(metric)
        update = EMA() if update is None else update
        if not isinstance(update, Update):
            raise UserError(
                f"update: expected EMA(), GradientLearned() or LinearMap(); got {update!r}."
            )
        if not isinstance(restart, Restart | None):
            raise UserError(f"restart: expected Restart() or None; got {restart!r}.")
        if size < 1 or dim < 1:
            raise UserError(f"codebook: expected size >= 1 and dim >= 1; got {size} and {dim}.")
        if init not in ("uniform", "data"):
            raise UserError(f"init: expected 'uniform' or 'data'; got {init!r}.")
        if restart is not None and not update.can_restart:
            raise UserError(
                f"restart: expected None with {type(update).__name__}, whose codes only move "
                f"together; got {restart}. Leave it out, or use EMA()."
            )
        self.update = update
        self.init = init
        self.restart = restart
        zeros = partial(torch.zeros, dtype=torch.float32)
        self.storage = (
            UnitStorage(update.storage) if update.learned and metric == "cosine" else update.storage
        )
        self.storage.register(self, zeros(size, dim))
        self.register_buffer("cluster_size", zeros(size))
        self.register_buffer("embed_sum", zeros(size, dim))
        self.register_buffer("idle", torch.zeros(size, dtype=torch.int64))
        # 0 or 1, in a dtype that averages of models and copies of floating buffers include.
        self.register_buffer("initialized", zeros(()))
        self._decay = update.decay
        # What `ready` has read, and from which version of which tensor.
        self._ready, self._read = init == "uniform", (0, 0)
        self._agreed = False
        self._held = self._owed = False
        self.reset_parameters()

    def __len__(self) -> int:
        return self.embed_sum.shape[0]

    def extra_repr(self) -> str:
        size, dim = self.embed_sum.shape
        cosine = "" if self.metric == "euclidean" else f", metric={self.metric!r}"
        return f"{size}, {dim}, update={self.update}, restart={self.restart}{cosine}"

    @property
    def decay(self) -> float:
        """γ of the moving averages, in [0, 1). Assign to it between steps to schedule it.

        Raises:
            UserError: a value outside [0, 1) is assigned.
        """
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        check_decay(value)
        self._decay = value
        self._rate.fill_(1 - value)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start over: uniform codes in ±1/k without counts, which wait for data if init says so.

        Under another metric than the Euclidean one, these are projected.
        """
        bound = 1 / len(self)
        # `empty_like` and arithmetic on the meta device import torch._dynamo, which takes a second.
        e = self.embed_sum.new_empty(self.embed_sum.shape).uniform_(-bound, bound)
        self.storage.write(self, self.project(e))
        for statistic in (self.cluster_size, self.embed_sum, self.idle):
            statistic.zero_()
        self.initialized.fill_(self.init == "uniform")
        self._reset_statistics()

    @property
    def ready(self) -> bool:
        """Whether the codes have been placed, as `initialized` says.

        Except on a CPU, it is read again only after it may have changed, because reading stalls the
        device. A compiled graph uses the value of the last read.
        """
        flag = self.initialized
        if torch.compiler.is_compiling() or flag.is_meta:
            return self._ready
        now = (0, 0) if flag.is_cpu else (flag.data_ptr(), flag._version)
        if flag.is_cpu or not self._ready or now != self._read:
            self._ready, self._read = bool(flag), now
        return self._ready

    def _reset_statistics(self) -> None:
        """Discard what this process has accumulated since the last step."""
        candidates = len(self) if self.restart is not None else 0
        device = self.cluster_size.device
        zeros = partial(torch.zeros, device=device)
        self._n = zeros(len(self), dtype=sum_dtype(device))
        self._s = zeros(self.embed_sum.shape, dtype=sum_dtype(device))
        self._candidates = zeros(candidates, self.embed_sum.shape[1], dtype=torch.float32)
        self._priority = torch.full((candidates,), -torch.inf, dtype=torch.float32, device=device)
        # 1 − γ as a tensor: a compiled graph would be compiled again for every value of a number.
        self._rate = torch.full((), 1 - self._decay, dtype=torch.float32, device=device)

    def _keep_float32(self) -> None:
        """Restore buffers that a wrapper has cast, as FSDP1's MixedPrecision does, to float32.

        In bfloat16 a moving average would stand still: its steps would be rounded away.
        """
        for module in self.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.dtype in (torch.bfloat16, torch.float16):
                    module._buffers[name] = buffer.float()

    def __setattr__(self, name: str, value: Any) -> None:
        # FSDP2 assigns the shard, and the gathered codes around a forward pass.
        if name == "embeddings" and hasattr(value, "full_tensor"):
            self.__dict__["shard"] = value
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        # Parametrizing has given it a class of its own, which pickle cannot find by name.
        size, dim = self.embed_sum.shape
        arguments = (size, dim, self.update, self.init, self.restart, self.metric)
        return type(self).__bases__[0], arguments, self.__dict__

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CodebookState:
        """Follow the model to another device. Of the dtype, only parameters follow: not buffers."""
        buffers = {id(buffer) for buffer in self.buffers()}

        def apply(t: Tensor) -> Tensor:
            moved = fn(t)
            return t.to(moved.device) if id(t) in buffers and moved.dtype != t.dtype else moved

        super()._apply(apply, recurse)
        if self._n.device != self.cluster_size.device:
            self._reset_statistics()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        state, prefix = args[:2]
        if self.metric == "cosine":
            adopt_unit(state, prefix, self.storage.key)
        codes = state.get(prefix + self.storage.key)
        flag = f"{prefix}initialized"
        if codes is None or codes.shape != self.embed_sum.shape:
            # Without codes nothing has been placed, whatever the state says.
            if flag in state:
                state[flag] = self.initialized
            super()._load_from_state_dict(*args, **kwargs)
            return
        state[flag] = state.get(flag, torch.ones((), device=codes.device)).float()
        # Older states do not have it.
        state.setdefault(f"{prefix}idle", torch.zeros_like(self.idle, device=codes.device))
        super()._load_from_state_dict(*args, **kwargs)
        if f"{prefix}cluster_size" not in state:  # the present counts are those of other codes
            self.cluster_size.zero_()
            self.embed_sum.zero_()
        self._read = (0, 0)
        self._ready = self.ready
        self._reset_statistics()
