"""The tokens of an image as a sequence of integers, and back.

A sequence holds the class of the image, the shape of its grid, and its tokens row by row; with
several scales, map by map, as in VAR. If a token has several indices (of a residual or grouped
quantizer), they follow each other. Integers are assigned in this order: the codes of each codebook,
the classes, no class, the grids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotvq.errors import UserError
from rotvq.text import first_few
from rotvq.tokens.collection import Codec

Grid = tuple[int, int]
"""Rows and columns of tokens."""

PREFIX = 2
"""Integers before the tokens: class and grid."""

LONGEST = 2**12
"""Indices of an image, at most: 64x64 tokens of one index each."""

CLASSES, GRIDS, CODES = 2**16, 2**10, 2**31
"""Classes, grids and codes, at most."""


def numbered(classes: int) -> tuple[str, ...]:
    """The numbers of classes, for those without names."""
    return tuple(map(str, range(classes)))


@dataclass(frozen=True)
class Vocabulary:
    """What the integers of a sequence mean.

    Args:
        codec: what the tokens mean.
        grids: that images have, the most frequent first.
        classes: a name for each class, a number if it has none; empty without classes.

    Raises:
        UserError: there are too many classes, grids, codes or tokens.
    """

    codec: Codec
    grids: tuple[Grid, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        longest = max(map(self.length, self.grids))
        if longest > LONGEST:
            raise UserError(
                f"tokens: expected images of at most {LONGEST:,} indices; got one of {longest:,}. "
                "Encode them at a smaller size, with --size."
            )
        for what, number, most in (
            ("classes", len(self.classes), CLASSES),
            ("grids", len(self.grids), GRIDS),
            ("codes", sum(self.codec.codebook_sizes), CODES),
        ):
            if number > most:
                raise UserError(f"tokens: expected at most {most:,} {what}; got {number:,}.")

    @property
    def indices_of_token(self) -> int:
        """Indices of a token: 1 for a single codebook."""
        return len(self.codec.codebook_sizes)

    @property
    def codes(self) -> tuple[range, ...]:
        """The integers of the codes of each codebook."""
        sizes = self.codec.codebook_sizes
        return tuple(range(end - n, end) for n, end in zip(sizes, accumulate(sizes), strict=True))

    @property
    def no_class(self) -> int:
        """The integer of an image without a class."""
        return sum(self.codec.codebook_sizes) + len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; empty if they have none but their numbers."""
        return () if self.classes == numbered(len(self.classes)) else self.classes

    @property
    def size(self) -> int:
        """How many integers there are."""
        return self.no_class + 1 + len(self.grids)

    def of_grid(self, grid: Grid) -> int:
        """The integer of a grid."""
        return self.no_class + 1 + self.grids.index(grid)

    def length(self, grid: Grid) -> int:
        """Indices of an image."""
        return self.codec.tokens_of(grid) * self.indices_of_token

    def label(self, name: str | int) -> int:
        """The number of a class, given by its name or number as text, or by its number.

        Raises:
            UserError: there is no such class.
        """
        if isinstance(name, str) and name in self.classes:
            return self.classes.index(name)
        if str(name).isdecimal() and int(name) < len(self.classes):
            return int(name)
        if not self.classes:
            raise UserError(
                f"label: expected none, because this prior was trained on tokens without labels; "
                f"got {name}. Encode a dataset that has labels."
            )
        raise UserError(f"label: expected one of {first_few(self.classes)}; got {name}.")

    def check_grid(self, grid: Grid) -> None:
        """Check that images of the prior have this grid.

        Raises:
            UserError: none has.
        """
        if grid not in self.grids:
            listed = first_few([f"{rows}x{columns}" for rows, columns in self.grids])
            raise UserError(
                f"grid: expected one that the prior was trained on ({listed}); got "
                f"{grid[0]}x{grid[1]}. Use one of these, or train a prior on such images."
            )

    def sequences(
        self, indices: NDArray[np.int64], labels: Sequence[int | None]
    ) -> NDArray[np.int64]:
        """The sequences (n, PREFIX + length) of images of one grid.

        Args:
            indices: (n, rows, columns, *index_shape).
            labels: a class for each image, None or -1 for one without.

        Raises:
            UserError: no image has this grid, or there is no such class.
        """
        n, rows, columns, *_ = indices.shape
        self.check_grid((rows, columns))
        most = len(self.classes)
        if (bad := next((c for c in labels if c is not None and c >= most), None)) is not None:
            raise UserError(f"labels: expected classes below {most}; got {bad}.")
        flat = self.codec.in_sequence(indices) + np.array([codes.start for codes in self.codes])
        first = self.no_class - len(self.classes)
        classes = [self.no_class if c is None or c < 0 else first + c for c in labels]
        grid = np.full(n, self.of_grid((rows, columns)))
        return np.concatenate([np.stack([classes, grid], 1), flat.reshape(n, -1)], 1)

    def indices(self, sequences: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
        """The argument of `sequences`, from sequences of one grid."""
        flat = sequences[:, PREFIX:].reshape(len(sequences), -1, self.indices_of_token)
        flat = flat - np.array([codes.start for codes in self.codes])
        return self.codec.in_grid(flat, grid)

    def describe(self) -> dict[str, Any]:
        """Plain data for a file."""
        return {
            "codec": self.codec.header(),
            "grids": [list(grid) for grid in self.grids],
            "classes": list(self.classes),
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Vocabulary:
        """From what `describe` returned.

        Raises:
            Exception: of any kind, if it is something else.
        """
        from rotvq.tokens.header import FORMAT, VERSION, read_codec

        codec = read_codec({"format": FORMAT, "version": VERSION, **values["codec"]})
        grids = tuple((int(rows), int(columns)) for rows, columns in values["grids"])
        if not grids or min(map(min, grids)) < 1:
            raise ValueError("its grids are empty")
        return cls(codec, grids, tuple(map(str, values["classes"])))
