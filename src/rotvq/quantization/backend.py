"""Where the Triton kernels do the work and where plain PyTorch does."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from rotvq.quantization.tensors import exporting, transformed


def kernels_for(t: Tensor) -> ModuleType | None:
    """The module `kernels` for a tensor on a CUDA device, in float32 or less, with Triton at hand.

    None elsewhere, in programs that are exported, as they may run where there is no Triton, and
    under `torch.func`, which has no rules for them.
    """
    if t.device.type != "cuda" or t.dtype == torch.float64:
        return None
    if exporting() or transformed():
        return None
    return _kernels()


@cache
def _kernels() -> ModuleType | None:
    try:
        from rotvq.quantization import kernels
    except ImportError:
        return None
    return kernels
