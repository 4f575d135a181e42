"""The first levels of a residual quantizer, which alone decode to a coarser image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization import MultiScaleQuantizer, Quantizer
from rotvq.scales import number_of_tokens as tokens_of_scales

T = TypeVar("T")
Indices = TypeVar("Indices", Tensor, NDArray[np.int64])


def check_levels(quantizer: Quantizer, levels: int | None, most: int | None = None) -> None:
    """Check a number of levels.

    Args:
        quantizer: the quantizer that has the levels.
        levels: how many of the first levels to use; None for all.
        most: how many levels there are; None for those of the quantizer.

    Raises:
        UserError: there are not that many.
    """
    most = most or quantizer.residual_levels
    if levels is not None and not 1 <= levels <= most:
        remedy = "" if quantizer.residual_levels > 1 else " The model's quantizer is not residual."
        expected = f"1 to {most}" if most > 1 else "1"
        raise UserError(f"levels: expected {expected}; got {levels}.{remedy}")


def first_levels(quantizer: Quantizer, indices: Indices, levels: int | None) -> Indices:
    """The indices of the first levels.

    Args:
        quantizer: the quantizer that the indices belong to.
        indices: (..., *index_shape), of all levels or of the first ones.
        levels: how many; None for all.

    Raises:
        UserError: there are not that many.
    """
    if quantizer.residual_levels == 1:
        check_levels(quantizer, levels)
        return indices
    check_levels(quantizer, levels, indices.shape[-1])
    return indices[..., :levels]


def of_first_levels(quantizer: Quantizer, values: Sequence[T], levels: int | None) -> tuple[T, ...]:
    """Of values for each index of a token (such as tables), those of the first levels."""
    most = quantizer.residual_levels
    return tuple(v for i, v in enumerate(values) if levels is None or i % most < levels)


def sizes_of_token(quantizer: Quantizer, levels: int | None = None) -> tuple[int, ...]:
    """Number of codes for each index of a token, of all levels or of the first ones.

    A token of several scales has one index; all scales have as many codes.
    """
    sizes = of_first_levels(quantizer, quantizer.codebook_sizes, levels)
    return sizes[:1] if isinstance(quantizer, MultiScaleQuantizer) else sizes


def number_of_tokens(quantizer: Quantizer, grid: tuple[int, int], levels: int | None = None) -> int:
    """Tokens of a grid: one for each position, or those of the maps of the first scales."""
    if isinstance(quantizer, MultiScaleQuantizer):
        return tokens_of_scales(quantizer.scales, levels or len(quantizer.scales), grid)
    return math.prod(grid)


def number_of_bits(quantizer: Quantizer, grid: tuple[int, int], levels: int | None = None) -> float:
    """Bits of the tokens of a grid: of all levels, or of the first ones."""
    sizes = sizes_of_token(quantizer, levels)
    return number_of_tokens(quantizer, grid, levels) * sum(map(math.log2, sizes))
