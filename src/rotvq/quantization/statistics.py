"""How many vectors chose a code, their sum and distances, and which vectors are equal."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.quantization.backend import kernels_for

BLOCK = 1 << 18
"""Elements that a processor converts to a wider type at a time: they stay in its cache."""


def sum_dtype(device: torch.device) -> torch.dtype:
    """Of counts and sums: float64, in which ten million float32 vectors add up without loss.

    Apple's GPUs have none; there it is float32.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def add_up(
    n: Float[Tensor, " k"],
    s: Float[Tensor, "k d"],
    z: Float[Tensor, "b d"],
    indices: Int64[Tensor, " b"],
    valid: Bool[Tensor, " b"],
) -> None:
    """Add each valid vector to its code's number n and sum s, in place.

    On a GPU in the order of the vectors, so that the same input gives the same bits.

    Args:
        n: of `sum_dtype`.
        s: of `sum_dtype`.
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
    """‖z − e_i‖² of each vector and its code."""
    pairs = zip(_blocks(z), _blocks(indices, z.shape[1]), strict=True)
    return torch.cat([(rows - e[codes]).square().sum(1) for rows, codes in pairs])


def first_of_equals(z: Float[Tensor, "n d"], valid: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """True for the first of the valid vectors of each value, found by a hash of their bits.

    Of more than 2³⁰ pairs of different vectors one may share a hash; its second counts as equal.

    Args:
        z: float32.
        valid: False for vectors to leave out.
    """
    if not len(z):
        return valid
    # Odd factors of 23 bits without a pattern, for a sum that stays within int64.
    mixed = torch.arange(1, z.shape[1] + 1, device=z.device) * 0x9E3779B1 % 2**31
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D % 2**31
    factors = (mixed ^ (mixed >> 12)) >> 8 | 1
    # Adding 0.0 turns -0.0, which equals it, into 0.0.
    hashes = [((rows + 0.0).view(torch.int32) * factors).sum(1) for rows in _blocks(z)]
    keys = torch.cat(hashes)
    keys, order = (2 * keys + valid).sort(stable=True)
    new = torch.cat([keys.new_ones(1, dtype=torch.bool), keys[1:] != keys[:-1]])
    return torch.zeros_like(valid).scatter(0, order, new) & valid


def _blocks(t: Tensor, width: int = 0) -> tuple[Tensor, ...]:
    """Rows of t in blocks of 2¹⁸ elements, or of rows of another width."""
    if torch.compiler.is_compiling():  # which fuses them, and must not depend on their number
        return (t,)
    return t.split(max(1, BLOCK // (width or t.shape[1])))
