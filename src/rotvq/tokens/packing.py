"""Indices as bits: each takes as many as the codebook needs, without gaps within an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bit_width(codebook_size: int) -> int:
    """Bits of an index of so many codes: 10 for 1,024, and 0 for a single one."""
    return (codebook_size - 1).bit_length()


def packed_bytes(tokens: int, bits: int) -> int:
    """Bytes that so many tokens of one image take."""
    return -(-tokens * bits // 8)


def pack(indices: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Indices (n, t) in [0, 2**bits) to bytes (n, ⌈t·bits/8⌉), the highest bit first.

    The rows' last bytes are filled up with zeros.
    """
    n, tokens = indices.shape
    each = indices[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(each.reshape(n, tokens * bits).astype(np.uint8), axis=1)


def unpack(rows: NDArray[np.uint8], tokens: int, bits: int) -> NDArray[np.int64]:
    """Bytes of `pack` to indices (n, tokens)."""
    each = np.unpackbits(rows, axis=1, count=tokens * bits).reshape(len(rows), tokens, bits)
    return each @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64))
