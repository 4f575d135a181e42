"""The tokens of many images in memory, packed: the content of a token file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from rotvq.errors import UserError
from rotvq.tokens.codec import Codec as Codec
from rotvq.tokens.codec import Size as Size
from rotvq.tokens.packing import pack

T = TypeVar("T")


class Picture(NamedTuple):
    """An image to encode.

    Attributes:
        name: "" if it has none.
        pixels: (c, h, w), uint8.
        label: its class.
        caption: its text.
    """

    name: str
    pixels: NDArray[np.uint8]
    label: int | None = None
    caption: str | None = None


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of images in order; `tokens[i]` is int64 (rows, columns, *index_shape).

    They are packed in memory as in a token file.

    Args:
        codec: what the tokens mean.
        sizes: height and width of each image in pixels.
        packed: the bytes of all images, one after the other.
        names: name of each image, or None if no image has one.
        labels: class of each image, None for an image without one; or None if no image has one.
        captions: text of each image, likewise.
        classes: names of the classes by label; empty if they have none.

    Raises:
        UserError: the parts do not match.
    """

    codec: Codec
    sizes: Sequence[Size]
    packed: bytes
    names: Sequence[str] | None = None
    labels: Sequence[int | None] | None = None
    captions: Sequence[str | None] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        if any(min(size) < 1 for size in self.sizes):
            raise UserError("tokens: expected images of 1x1 pixels or more; got an empty one.")
        if len(self.packed) != self._ends[-1]:
            raise UserError(
                f"tokens: expected {self._ends[-1]:,} bytes for {len(self):,} images; got "
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
                raise UserError(f"tokens: a {what} has the wrong type. The file is damaged.")

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int64]: ...

    @overload
    def __getitem__(self, index: slice) -> Tokens: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.int64] | Tokens:
        """The tokens of one image, or of several as `Tokens`.

        Raises:
            IndexError: there is no such image.
            UserError: an index is beyond its codebook.
        """
        if isinstance(index, slice):
            return self._take(range(len(self))[index])
        i = range(len(self))[index]
        return self._indices(slice(i, i + 1))[0]

    def batches(self, most: int, pixels: int = 2**62) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Consecutive images of one size, in batches.

        Args:
            most: maximum number of images in a batch.
            pixels: maximum number of pixels in a batch; a single image may have more.

        Yields:
            The slice of the images, and their indices (n, rows, columns, *index_shape).

        Raises:
            UserError: an index is beyond its codebook.
        """
        for these in _runs(self.sizes, most, pixels):
            yield these, self._indices(these)

    @cached_property
    def _ends(self) -> list[int]:
        """Where each image begins in `packed`, and where the last one ends."""
        return [*accumulate(map(self.codec.bytes_of, self.sizes), initial=0)]

    def _indices(self, these: slice) -> NDArray[np.int64]:
        """The indices of consecutive images of one size."""
        grid = self.codec.grid(self.sizes[these.start])
        n, start = these.stop - these.start, self._ends[these.start]
        length = self._ends[these.stop] - start
        flat = np.frombuffer(self.packed, np.uint8, length, start).reshape(n, length // n)
        return self.codec.unpacked(flat, grid)

    def _take(self, chosen: range) -> Tokens:
        parts = (self.packed[self._ends[i] : self._ends[i + 1]] for i in chosen)
        return Tokens(
            self.codec,
            [self.sizes[i] for i in chosen],
            b"".join(parts),
            _chosen(self.names, chosen),
            _chosen(self.labels, chosen),
            _chosen(self.captions, chosen),
            self.classes,
        )


class Packer:
    """Collects batches of indices into `Tokens`.

    Args:
        codec: what the tokens mean.
        classes: names of the classes by label; empty if they have none.
    """

    def __init__(self, codec: Codec, classes: tuple[str, ...] = ()) -> None:
        self.codec, self.classes = codec, classes
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
            indices: (n, rows, columns, *index_shape).
            size: size of each image before padding.
            names: name of each image; "" for an image without one.
            labels: label of each image; None for an image without one.
            captions: caption of each image; None for an image without one.

        Raises:
            UserError: the indices are not those of codes, or of another size; or there is not one
                name, label or caption for each image.
        """
        flat, n = self.codec.in_sequence(indices), len(indices)
        self.codec.check_size((indices.shape[1], indices.shape[2]), size)
        added = _each(names, "", n), _each(labels, None, n), _each(captions, None, n)
        self.parts.append(pack(flat, self.codec.widths).tobytes())
        self.sizes += [size] * n
        self.names += added[0]
        self.labels += added[1]
        self.captions += added[2]

    def tokens(self) -> Tokens:
        """Everything added so far."""
        return Tokens(
            self.codec,
            self.sizes,
            b"".join(self.parts),
            self.names if any(self.names) else None,
            self.labels if any(label is not None for label in self.labels) else None,
            self.captions if any(text is not None for text in self.captions) else None,
            self.classes,
        )


def _each(values: Sequence[Any] | None, otherwise: Any, n: int) -> list[Any]:
    """A value for each of n images."""
    given = () if values is None else values
    found = [v.item() if isinstance(v, np.generic) else v for v in given] or [otherwise] * n
    if len(found) != n:
        raise UserError(
            f"expected a name, label or caption for each of {n} images; got {len(found)}."
        )
    return found


def _chosen(values: Sequence[T] | None, chosen: range) -> list[T] | None:
    return None if values is None else [values[i] for i in chosen]


def _runs(sizes: Sequence[Size], most: int, pixels: int) -> Iterator[slice]:
    """Slices of consecutive equal sizes, at most `most` images or, if several, `pixels` each."""
    changes = [i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]]
    for start, stop in pairwise([0, *changes, len(sizes)]):
        height, width = sizes[start] if start < stop else (1, 1)
        step = min(most, max(1, pixels // (height * width)))
        for first in range(start, stop, step):
            yield slice(first, min(first + step, stop))
