"""Random tokens of every kind of quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from rotvq.tokens.collection import Codec

CODECS = {
    "single": Codec("0" * 16, (7,), 4, 3),
    "residual": Codec("0" * 16, (5, 3), 4, 3, (2,)),
    "multi-scale": Codec("0" * 16, (7,), 4, 3, (2,), (1, 2, 3)),
    "grouped residual": Codec("0" * 16, (4, 3, 2, 5), 4, 3, (2, 2)),
}


def draw_indices(codec: Codec, n: int, grid: tuple[int, int], seed: int = 0) -> Any:
    """Random indices (n, rows, columns, *index_shape)."""
    draw = np.random.default_rng(seed)
    tokens = codec.tokens_of(grid)
    each = [draw.integers(0, size, (n, tokens)) for size in codec.codebook_sizes]
    return codec.in_grid(np.stack(each, -1), grid)
