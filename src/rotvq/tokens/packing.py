"""Indices as bits: each takes as many as its codebook needs, without gaps within an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def bit_width(codebook_size: int) -> int:
    """Bits of an index into a codebook: 10 for 1,024 codes, 0 for a single one."""
    return (codebook_size - 1).bit_length()


def packed_bytes(tokens: int, bits: int) -> int:
    """Number of bytes for the tokens of an image.

    Args:
        tokens: number of tokens.
        bits: bits of one token.
    """
    return -(-tokens * bits // 8)


def pack(indices: NDArray[np.int64], bits: Sequence[int]) -> NDArray[np.uint8]:
    """Pack the indices of n images of t tokens into bytes (n, ⌈t·Σbits/8⌉), highest bit first.

    The last byte of each image is padded with zeros.

    Args:
        indices: (n, t, l), one for each of l codebooks, in [0, 2**bits).
        bits: bits of each of the l indices.
    """
    n, tokens, _ = indices.shape
    each = [
        indices[..., i, None] >> np.arange(width - 1, -1, -1) & 1 for i, width in enumerate(bits)
    ]
    together = np.concatenate(each, -1).astype(np.uint8)
    return np.packbits(together.reshape(n, tokens * sum(bits)), axis=1)


def unpack(rows: NDArray[np.uint8], tokens: int, bits: Sequence[int]) -> NDArray[np.int64]:
    """Unpack bytes from `pack` into indices (n, tokens, l)."""
    together = np.unpackbits(rows, axis=1, count=tokens * sum(bits))
    each = np.split(together.reshape(len(rows), tokens, sum(bits)), np.cumsum(bits[:-1]), -1)
    places = [1 << np.arange(width - 1, -1, -1, dtype=np.int64) for width in bits]
    return np.stack([bit @ place for bit, place in zip(each, places, strict=True)], -1)
