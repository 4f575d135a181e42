"""Which tensors the Triton kernels handle; PyTorch handles the others."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from rotvq.quantization.tensors import exporting, transformed


def kernels_for(t: Tensor) -> ModuleType | None:
    """The module `kernels` for a CUDA tensor of at most float32, where Triton is installed.

    None otherwise; in exported programs, which may run without Triton; and under `torch.func`,
    which has no rules for the kernels.
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
