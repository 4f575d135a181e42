"""How many vectors chose a code, and their sum."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.quantization.backend import kernels_for


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
        n: float32.
        s: float32.
        z: float32; zeros where not valid.
        indices: the code of each vector.
        valid: False for vectors to leave out.
    """
    kernels = kernels_for(z)
    if kernels is None:
        n.index_add_(0, indices, valid.to(n.dtype))
        s.index_add_(0, indices, z)
    else:
        number, total = kernels.add_up(z.contiguous(), indices.where(valid, len(n)), len(n))
        n += number
        s += total
