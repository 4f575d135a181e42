"""Decides which tensors the Triton kernels handle; PyTorch handles the others."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from rotvq.quantization.tensors import exporting, transformed


def kernels_for(t: Tensor) -> ModuleType | None:
    """The module `kernels` if it can handle a tensor, otherwise None.

    It handles CUDA tensors except float64, if Triton is installed; but not in exported programs,
    which may run without Triton, nor under `torch.func`, which has no rules for the kernels.
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
