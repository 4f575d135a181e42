"""Maps of increasing resolution over one grid: how many tokens they have, and at which positions.

With S the last scale, scale s divides a grid of h rows into ⌈h·s/S⌉ rows of tokens, and its
columns likewise. A token is stored at the first position of the area that it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LARGEST = 10**4
"""All scales are below it."""


def are_multiples(scales: Sequence[int]) -> bool:
    """Whether scales increase from 1 or more, and each is a multiple of the one before."""
    rising = all(a < b for a, b in pairwise((0, *scales, LARGEST)))
    return len(scales) > 0 and rising and all(b % a == 0 for a, b in pairwise(scales))


def cells(side: int, scale: int, last: int) -> int:
    """Rows of a scale's map, for a grid of `side` rows; columns likewise."""
    # Without the negative numbers of -(-a // b), which ONNX divides otherwise.
    return (side * scale + last - 1) // last


def number_of_tokens(scales: tuple[int, ...], levels: int, grid: tuple[int, int]) -> int:
    """Tokens of the maps of the first levels."""
    rows, columns = grid
    last = scales[-1]
    return sum(cells(rows, s, last) * cells(columns, s, last) for s in scales[:levels])


@lru_cache(64)
def raster(scales: tuple[int, ...], levels: int, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Where the tokens of the first levels are in a flattened (rows, columns, levels).

    In the order of a prior (VAR, arXiv 2404.02905): one map after the other, each row by row.
    """
    columns, parts = grid[1], []
    for level, scale in enumerate(scales[:levels]):
        down, right = (
            np.arange(cells(side, scale, scales[-1])) * scales[-1] // scale for side in grid
        )
        parts.append(((down[:, None] * columns + right) * levels + level).ravel())
    return np.concatenate(parts)
