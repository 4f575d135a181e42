"""Where the Triton kernels do the work and where plain PyTorch does."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor


def kernels_for(t: Tensor) -> ModuleType | None:
    """The module `kernels` for a tensor on a CUDA device, in float32 or less, with Triton at hand.

    None elsewhere, and in programs that are exported: they may run where there is no Triton.
    """
    if t.device.type != "cuda" or t.dtype == torch.float64 or torch.compiler.is_exporting():
        return None
    return _kernels()


@cache
def _kernels() -> ModuleType | None:
    try:
        from rotvq.quantization import kernels
    except ImportError:
        return None
    return kernels
