"""How a codebook holds its codes: a buffer, a parameter, a map of a basis, or directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rotvq.quantization.metrics import cosine
from rotvq.quantization.processes import put, whole
from rotvq.quantization.tensors import whole_precision


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


def adopt_unit(state: dict[str, Any], prefix: str, key: str) -> None:
    """Let codes of unit length that are learned by gradient take the place of others, or reverse.

    Args:
        state: a state dict, changed in place.
        prefix: of the codebook in it.
        key: what the codebook stores its codes under.
    """
    linear = any(name.startswith(f"{prefix}parametrizations.embeddings.0.") for name in state)
    for other in (Storage.key, UnitStorage.key):
        if not linear and prefix + key not in state and prefix + other in state:
            state[prefix + key] = cosine(state.pop(prefix + other).float())


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
        with whole_precision(basis):
            return basis.float() @ whole(self.weight).float()

    @torch.no_grad()
    def right_inverse(self, codes: Tensor) -> Tensor:
        """Make the codes themselves the basis, under the identity map."""
        put(self.weight, torch.eye(len(self.weight)).to(codes))
        return codes
