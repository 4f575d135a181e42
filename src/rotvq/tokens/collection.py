"""The tokens of many images in memory, packed: what a token file holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotvq.errors import UserError
from rotvq.tokens.packing import bit_width, pack, packed_bytes, unpack

Size = tuple[int, int]
"""Height and width in pixels."""


class Picture(NamedTuple):
    """An image that is coded.

    Args:
        name: "" where it has none.
        pixels: (c, h, w), uint8.
        label: its class.
        caption: its text.
    """

    name: str
    pixels: NDArray[np.uint8]
    label: int | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Codec:
    """What tokens mean: whose they are and how they are laid out.

    Args:
        model: fingerprint of the model that wrote them.
        codebook_size: number of its codes.
        stride: pixels a token is high and wide.
        channels: of the images, 1 or 3.
    """

    model: str
    codebook_size: int
    stride: int
    channels: int

    @property
    def bits(self) -> int:
        """Bits of a token."""
        return bit_width(self.codebook_size)

    def grid(self, size: Size) -> Size:
        """Rows and columns of tokens that cover an image."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def bytes_of(self, size: Size) -> int:
        """Bytes that an image's tokens take."""
        rows, columns = self.grid(size)
        return packed_bytes(rows * columns, self.bits)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Packed tokens of images in order.

    Args:
        codec: what they mean.
        sizes: of each image.
        packed: the bytes of all images, one after the other.
        names: of each image, or None where the source has none.
        labels: class of each image, or None for one without; None where no image has one.
        captions: text of each image, likewise.

    Raises:
        UserError: the parts do not fit each other.
    """

    codec: Codec
    sizes: Sequence[Size]
    packed: bytes
    names: Sequence[str] | None = None
    labels: Sequence[int | None] | None = None
    captions: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        """See that the bytes are those of these images."""
        if any(min(size) < 1 for size in self.sizes):
            raise UserError("tokens: expected images of 1x1 pixels or more; got an empty one.")
        wanted = sum(map(self.codec.bytes_of, self.sizes))
        if len(self.packed) != wanted:
            raise UserError(
                f"tokens: expected {wanted:,} bytes for {len(self):,} images; got "
                f"{len(self.packed):,}. The file is damaged, or not of this format."
            )
        for what, values, kinds in (
            ("name", self.names, str),
            ("label", self.labels, int | None),
            ("caption", self.captions, str | None),
        ):
            if values is None:
                continue
            if len(values) != len(self):
                raise UserError(
                    f"tokens: expected a {what} for each of {len(self):,} images; got "
                    f"{len(values):,}. The file is damaged."
                )
            if not all(isinstance(value, kinds) for value in values):
                raise UserError(f"tokens: a {what} is of another type. The file is damaged.")

    def __len__(self) -> int:
        return len(self.sizes)

    def batches(self, most: int, pixels: int = 2**62) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Neighbouring images of one size, at most so many at a time, and of so many pixels.

        Yields:
            Which images, and their indices (n, rows, columns).

        Raises:
            UserError: an index that is none of the codebook's.
        """
        start = 0
        for these in _runs(self.sizes, most, pixels):
            size = self.sizes[these.start]
            rows, columns = self.codec.grid(size)
            n, each = these.stop - these.start, self.codec.bytes_of(size)
            flat = np.frombuffer(self.packed, np.uint8, n * each, start).reshape(n, each)
            indices = unpack(flat, rows * columns, self.codec.bits)
            if indices.size and indices.max() >= self.codec.codebook_size:
                raise UserError(
                    f"tokens: expected indices below {self.codec.codebook_size}; got "
                    f"{indices.max()}. The file is damaged."
                )
            start += n * each
            yield these, indices.reshape(n, rows, columns)


class Packer:
    """Collects batches of indices into `Tokens`."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.sizes: list[Size] = []
        self.names: list[str] = []
        self.labels: list[int | None] = []
        self.captions: list[str | None] = []
        self.parts: list[bytes] = []

    def add(
        self,
        indices: NDArray[np.int64],
        size: Size,
        names: Sequence[str] | None = None,
        labels: Sequence[int | None] | None = None,
        captions: Sequence[str | None] | None = None,
    ) -> None:
        """Add images of one size.

        Args:
            indices: (n, rows, columns).
            size: of each image before it was padded.
            names: of each; "" for one without.
            labels: of each; None for one without.
            captions: of each; None for one without.
        """
        n = len(indices)
        self.parts.append(pack(indices.reshape(n, -1), self.codec.bits).tobytes())
        self.sizes += [size] * n
        self.names += names or [""] * n
        self.labels += labels or [None] * n
        self.captions += captions or [None] * n

    def tokens(self) -> Tokens:
        """All that was added."""
        return Tokens(
            self.codec,
            self.sizes,
            b"".join(self.parts),
            self.names if any(self.names) else None,
            self.labels if any(label is not None for label in self.labels) else None,
            self.captions if any(text is not None for text in self.captions) else None,
        )


def _runs(sizes: Sequence[Size], most: int, pixels: int) -> Iterator[slice]:
    """Slices of equal neighbours, none longer than `most`, nor of more pixels where that is two."""
    changes = [i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]]
    for start, stop in pairwise([0, *changes, len(sizes)]):
        height, width = sizes[start] if start < stop else (1, 1)
        step = min(most, max(1, pixels // (height * width)))
        for first in range(start, stop, step):
            yield slice(first, min(first + step, stop))
