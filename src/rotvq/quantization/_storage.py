"""How a codebook holds its codes: a buffer, a parameter, a map of a basis, or directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rotvq.quantization.metrics import cosine
from rotvq.quantization.processes import put, whole


class Storage:
    """Codes in a buffer `embeddings` (k, d): no gradient, always float32."""

    key = "embeddings"
    """What the state dict stores the codes under."""

    def register(self, module: nn.Module, codes: Tensor) -> None:
        """Give a new codebook its codes, as the attribute `embeddings`."""
        module.register_buffer("embeddings", codes)

    def write(self, module: nn.Module, codes: Tensor) -> None:
        """Replace all codes, in place."""
        put(module.get_buffer("embeddings"), codes)


class ParameterStorage(Storage):
    """Codes in a parameter `embeddings` (k, d), which follows the dtype of the model."""

    def register(self, module: nn.Module, codes: Tensor) -> None:
        module.register_parameter("embeddings", nn.Parameter(codes))

    def write(self, module: nn.Module, codes: Tensor) -> None:
        held: Any = module
        put(held.embeddings, codes)
        # Inside a forward pass FSDP2 swaps in a gathered copy, which it drops afterwards.
        if held.shard is not None and held.shard is not held.embeddings:
            put(held.shard, codes)


class MappedStorage(Storage):
    """Codes e = b W: a frozen basis b (k, d) in a buffer and a parameter W (d, d)."""

    key = "parametrizations.embeddings.original"

    def register(self, module: nn.Module, codes: Tensor) -> None:
        super().register(module, codes)
        parametrize.register_parametrization(module, "embeddings", _Map(codes.shape[1]))

    def write(self, module: nn.Module, codes: Tensor) -> None:
        _write_parametrized(module, codes)


class UnitStorage(Storage):
    """Codes of a storage for learned codes, brought to unit length whenever they are read."""

    key = MappedStorage.key

    def __init__(self, raw: Storage) -> None:
        self.raw = raw

    def register(self, module: nn.Module, codes: Tensor) -> None:
        self.raw.register(module, codes)
        parametrize.register_parametrization(module, "embeddings", _Unit())

    def write(self, module: nn.Module, codes: Tensor) -> None:
        _write_parametrized(module, codes)


def _write_parametrized(module: nn.Module, codes: Tensor) -> None:
    # In place, because a compiled graph cannot follow an assignment to a parametrized tensor.
    held: Any = module.get_submodule("parametrizations.embeddings")
    for parametrization in reversed(held):
        codes = parametrization.right_inverse(codes)
    put(held.original, codes)


class _Unit(nn.Module):
    """Codes of any length to codes of unit length, float32."""

    def forward(self, codes: Tensor) -> Tensor:
        return cosine(whole(codes).float())

    def right_inverse(self, codes: Tensor) -> Tensor:
        """The codes themselves, which have unit length."""
        return codes


class _Map(nn.Module):
    """Basis (k, d) to codes (k, d), float32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim))

    def forward(self, basis: Tensor) -> Tensor:
        weight = whole(self.weight).float()
        # A meta tensor has no autocast, and an exported program cannot hold one that does nothing.
        if basis.is_meta or not torch.is_autocast_enabled(basis.device.type):
            return basis.float() @ weight
        with torch.autocast(basis.device.type, enabled=False):
            return basis.float() @ weight

    @torch.no_grad()
    def right_inverse(self, codes: Tensor) -> Tensor:
        """Make the codes themselves the basis, under the identity map."""
        put(self.weight, torch.eye(len(self.weight)).to(codes))
        return codes
