"""Statistics of a step: counts and sums of the vectors of each code, distances, duplicates."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.quantization.backend import kernels_for

_BLOCK = 1 << 18
"""Elements converted to a wider dtype at a time on a CPU, so that they stay in its cache."""


def sum_dtype(device: torch.device) -> torch.dtype:
    """The dtype of counts and sums: float64, in which ten million float32 vectors add up exactly.

    On Apple GPUs, which lack float64, it is float32.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def add_up(
    n: Float[Tensor, " k"],
    s: Float[Tensor, "k d"],
    z: Float[Tensor, "b d"],
    indices: Int64[Tensor, " b"],
    valid: Bool[Tensor, " b"],
) -> None:
    """Add each valid vector to the count n and the sum s of its code, in place.

    Deterministic on GPUs too: vectors are added in a fixed order.

    Args:
        n: counts, in `sum_dtype`.
        s: sums, in `sum_dtype`.
        z: float32; zeros where not valid.
        indices: the code of each vector.
        valid: False for vectors to leave out.
    """
    kernels = kernels_for(z)
    if kernels is None:
        n.index_add_(0, indices, valid.to(n.dtype))
        for rows, codes in zip(_blocks(z), _blocks(indices, z.shape[1]), strict=True):
            s.index_add_(0, codes, rows.to(s.dtype))
    else:
        number, total = kernels.add_up(z.contiguous(), indices.where(valid, len(n)), len(n))
        n += number
        s += total


def squared_error(
    z: Float[Tensor, "n d"], e: Float[Tensor, "k d"], indices: Int64[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """‖z − e‖² of each vector and its code."""
    pairs = zip(_blocks(z), _blocks(indices, z.shape[1]), strict=True)
    return torch.cat([(rows - e[codes]).square().sum(1) for rows, codes in pairs])


def first_of_equals(z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """True for the first occurrence of each distinct valid vector, identified by a hash.

    Beyond about 2³⁰ pairs of distinct vectors, one may collide and count as a duplicate.

    Args:
        z: float32.
        valid: False for vectors to leave out.
    """
    if not len(z):
        return valid
    # Odd pseudo-random factors of 23 bits, so that the sum fits in int64.
    mixed = torch.arange(1, z.shape[1] + 1, device=z.device) * 0x9E3779B1 % 2**31
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D % 2**31
    factors = (mixed ^ (mixed >> 12)) >> 8 | 1
    # Adding 0.0 turns -0.0 into 0.0, so that equal vectors have equal bits.
    hashes = [((rows + 0.0).view(torch.int32) * factors).sum(1) for rows in _blocks(z)]
    keys = torch.cat(hashes)
    keys, order = (2 * keys + valid).sort(stable=True)
    new = torch.cat([keys.new_ones(1, dtype=torch.bool), keys[1:] != keys[:-1]])
    return torch.zeros_like(valid).scatter(0, order, new) & valid


def _blocks(t: Tensor, width: int = 0) -> tuple[Tensor, ...]:
    """Rows of t in blocks of 2¹⁸ elements; `width` overrides the number of elements per row."""
    if torch.compiler.is_compiling():  # a graph fuses the loop, and must not depend on its length
        return (t,)
    return t.split(max(1, _BLOCK // (width or t.shape[1])))
