"""What tokens mean, and how they are laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotvq.errors import UserError
from rotvq.scales import number_of_tokens, raster
from rotvq.text import counted
from rotvq.tokens.packing import bit_width, packed_bytes, unpack

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Codec:
    """What tokens mean: which model made them, and how they are laid out.

    Args:
        model: fingerprint of that model.
        codebook_sizes: number of codes for each index of a token. With several scales, a token has
            one index, and all scales have the same number of codes.
        stride: height and width in pixels that one token covers.
        channels: of the images, 1 or 3.
        index_shape: shape of the indices of one token; () for a single codebook.
        scales: the scales of a `MultiScaleQuantizer`, otherwise empty. index_shape is then the
            number of scales, from the first, that have tokens here.
    """

    model: str
    codebook_sizes: tuple[int, ...]
    stride: int
    channels: int
    index_shape: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()

    def __str__(self) -> str:
        """For errors."""
        what = "scale" if self.scales else "codebook"
        return f"model {self.model} with {counted(math.prod(self.index_shape), what)}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of each index of a token."""
        return tuple(map(bit_width, self.codebook_sizes))

    @property
    def bits(self) -> int:
        """Bits of a token, all its indices together."""
        return sum(self.widths)

    def header(self) -> dict[str, str | int | list[int]]:
        """The description of the tokens for a file."""
        scales: dict[str, str | int | list[int]] = {"scales": [*self.scales]} if self.scales else {}
        return {
            "model": self.model,
            "codebook_sizes": list(self.codebook_sizes),
            "index_shape": list(self.index_shape),
            "bits": self.bits,
            "stride": self.stride,
            "channels": self.channels,
            **scales,
        }

    def grid(self, size: Size) -> Size:
        """Rows and columns of tokens that cover an image."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def check_size(self, grid: Size, size: Size) -> None:
        """Check that a grid covers an image of a size.

        Raises:
            UserError: it does not.
        """
        if grid != (own := self.grid(size)):
            raise UserError(
                f"indices: expected {own[0]}x{own[1]} tokens for images of {size[0]}x{size[1]} "
                f"pixels (height x width); got {grid[0]}x{grid[1]}."
            )

    def tokens_of(self, grid: Size) -> int:
        """Tokens of a grid."""
        if self.scales:
            return number_of_tokens(self.scales, self.index_shape[0], grid)
        return grid[0] * grid[1]

    def bits_of(self, size: Size) -> int:
        """Bits that the tokens of an image take."""
        return self.tokens_of(self.grid(size)) * self.bits

    def bytes_of(self, size: Size) -> int:
        """Bytes that the tokens of an image take."""
        return packed_bytes(self.tokens_of(self.grid(size)), self.bits)

    def in_sequence(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens in the order of a file and of a prior, (n, tokens, indices of a token).

        Row by row; of several scales, one map after the other.

        Args:
            indices: integers (n, rows, columns, *index_shape), -1 where a scale has no token.

        Raises:
            UserError: they have another shape or dtype, or one is not the index of a code.
        """
        n, rows, columns, *shape = indices.shape if indices.ndim >= 3 else (0, 0, 0, -1)
        if (*shape,) != self.index_shape or indices.dtype.kind not in "iu":
            of_token = "".join(f", {size}" for size in self.index_shape)
            raise UserError(
                f"indices: expected integers of shape (images, rows, columns{of_token}); got "
                f"{indices.dtype} of shape {indices.shape}. Pass tokens of {self}."
            )
        if self.scales:
            found = indices.reshape(n, -1)[:, self._raster((rows, columns)), None]
        else:
            found = indices.reshape(n, rows * columns, len(self.codebook_sizes))
        if found.size and (found.min() < 0 or (found >= np.array(self.codebook_sizes)).any()):
            raise UserError(
                f"indices: expected 0 to below {self._sizes}; got {found.min()} to {found.max()}. "
                f"Pass tokens of {self}."
            )
        return found.astype(np.int64, copy=False)

    def in_grid(self, sequence: NDArray[np.int64], grid: Size) -> NDArray[np.int64]:
        """The argument of `in_sequence` of a grid."""
        n, shape = len(sequence), (*grid, *self.index_shape)
        if not self.scales:
            return sequence.reshape(n, *shape)
        indices = np.full((n, math.prod(shape)), -1, np.int64)
        indices[:, self._raster(grid)] = sequence.reshape(n, -1)
        return indices.reshape(n, *shape)

    def unpacked(self, rows: NDArray[np.uint8], grid: Size) -> NDArray[np.int64]:
        """Indices (n, *grid, *index_shape) from the bytes of n images of one grid.

        Raises:
            UserError: an index is beyond its codebook.
        """
        found = unpack(rows, self.tokens_of(grid), self.widths)
        if (found >= np.array(self.codebook_sizes)).any():
            raise UserError(
                f"tokens: expected indices below {self._sizes}; got {found.max()}. The file is "
                "damaged."
            )
        return self.in_grid(found, grid)

    @property
    def _sizes(self) -> str:
        """The codebook sizes, for errors."""
        return ", ".join(map(str, dict.fromkeys(self.codebook_sizes)))

    def _raster(self, grid: Size) -> NDArray[np.int64]:
        return raster(self.scales, self.index_shape[0], grid)
