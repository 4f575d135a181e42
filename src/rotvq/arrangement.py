"""An order of things that puts similar ones side by side on a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 40
"""Rounds of exchanges for each width of the neighborhood."""


def arrange(
    features: NDArray[np.float32], order: NDArray[np.int64], columns: int
) -> NDArray[np.int64]:
    """A self-sorting map (Strong and Gong 2014).

    Pairs exchange their cells if that brings both together closer to the means of their
    neighborhoods, which shrink.

    Args:
        features: (k, d), whose distances tell how different two things are.
        order: the numbers of the things (k,) to start from, row by row on the grid.
        columns: of the grid.

    Returns:
        Their numbers in the new order.
    """
    k, order = len(features), order.copy()
    rows = -(-k // columns)
    generator = np.random.default_rng(0)
    radius = max(rows, columns, 4) // 4
    while radius >= 1:
        for _ in range(_ROUNDS):
            grid = np.zeros((rows * columns, features.shape[1]), np.float32)
            grid[:k] = features[order]
            wanted = _blurred(grid.reshape(rows, columns, -1), radius).reshape(grid.shape)
            a, b = generator.permutation(k)[: k // 2 * 2].reshape(2, -1)
            # Of ‖f − w‖² + ‖f' − w'‖², an exchange changes only the products.
            gain = ((features[order[b]] - features[order[a]]) * (wanted[a] - wanted[b])).sum(1)
            a, b = a[gain > 0], b[gain > 0]
            order[a], order[b] = order[b], order[a]
        radius = radius * 2 // 3
    return order


def _blurred(grid: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Means over squares of 2·radius + 1 cells a side; the edge is repeated."""
    for axis in (0, 1):
        pads = [(0, 0)] * 3
        pads[axis] = (radius + 1, radius)
        sums = np.pad(grid, pads, mode="edge").cumsum(axis, dtype=np.float64)
        n = grid.shape[axis]
        high = sums.take(range(2 * radius + 1, 2 * radius + 1 + n), axis)
        grid = ((high - sums.take(range(n), axis)) / (2 * radius + 1)).astype(np.float32)
    return grid
