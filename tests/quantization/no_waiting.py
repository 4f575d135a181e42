"""Refuses operators that a GPU's host would have to wait for, on a CPU.

A step without them fits in a CUDA graph.
"""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rotvq.quantization import codebook, estimators, search, statistics, updates
from rotvq.quantization.state import CodebookState


def like_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way of a GPU: the kernels, in Triton's interpreter, and codes that are in place."""
    kernels = pytest.importorskip("rotvq.quantization.kernels")
    for module in (codebook, estimators, search, statistics, updates):
        monkeypatch.setattr(module, "kernels_for", lambda t: kernels)
    # Read once, before the first step; again only on a CPU.
    monkeypatch.setattr(CodebookState, "ready", True)


class NoWaiting(TorchDispatchMode):
    """Refuses operators whose result, or its size, the host needs."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique", "equal")
    inside_kernel = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        space, _, name = str(function).removesuffix(".default").partition(".")
        if space == "rotvq":
            self.inside_kernel = True
        elif not self.inside_kernel:
            assert not name.lstrip("_").startswith(tuple(w.lstrip("_") for w in self.WAITING)), name
            places = args[1] if name.startswith("index") and isinstance(args[1], list) else ()
            assert not any(isinstance(p, Tensor) and p.dtype == torch.bool for p in places), name
        try:
            return function(*args, **(kwargs or {}))
        finally:
            self.inside_kernel = self.inside_kernel and space != "rotvq"
