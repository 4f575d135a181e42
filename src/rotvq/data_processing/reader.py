"""A common interface to images in folders, shards, Parquet files, the Hub and arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rotvq.data_processing.decoding import Encoded, Findings, decode_split
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.skipped import Skipped, summary
from rotvq.data_processing.splits import ImageData, ImageSplit, held_out
from rotvq.errors import UserError

SPLITS = ("train", "test", "all")
NO_TEST_SPLIT = "no test split found: 10 % of the images are held out"
TEST_SPLIT = "only the test split is read: pass --split all or --split train for other images"
LONGEST_CAPTION = 2**16
"""Maximum bytes of a caption; longer ones are truncated."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reader:
    """Images in order, before decoding; can be read more than once.

    Args:
        count: the number of images, readable or not.
        items: yields all images, or those selected by a mask of `count` entries.
        keys: one key per image, which decides whether it is held out.
        skipped: what was skipped before any image was opened.
        notes: remarks for the user.
    """

    count: int
    items: Callable[[Mask | None], Iterator[Encoded]]
    keys: Callable[[], Sequence[str]]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Encoded]:
        return self.items(None)

    def only(self, mask: Mask) -> Reader:
        """A reader of the selected images."""
        chosen = np.flatnonzero(mask)

        def items(part: Mask | None) -> Iterator[Encoded]:
            wanted = np.zeros_like(mask)
            wanted[chosen if part is None else chosen[part]] = True
            return self.items(wanted)

        def keys() -> list[str]:
            return [*compress(self.keys(), mask)]

        return replace(self, count=len(chosen), items=items, keys=keys)


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A data set that is read on demand.

    Args:
        name: the displayed name.
        splits: opens a reader for "train" and "test" if the source has them, otherwise for "all".
        finished: adds name and notes to the decoded data set.
    """

    name: str
    splits: Mapping[str, Callable[[], Reader]]
    finished: Callable[[ImageData, Target], ImageData] = lambda data, target: data

    def reader(self, split: str | None = None) -> Reader:
        """The images of a split.

        Args:
            split: "train", "test" or "all"; None means "test" if the source has a test split,
                otherwise "all". In a source without splits, a tenth is held out as "test".

        Raises:
            UserError: the source has no such split, or is damaged.
        """
        if split is None and "test" in self.splits:
            reader = self.splits["test"]()
            return replace(reader, notes=(*reader.notes, TEST_SPLIT))
        split = split or "all"
        if split in self.splits:
            return self.splits[split]()
        if split == "all":
            return joined([make() for make in self.splits.values()])
        if "all" not in self.splits:
            raise UserError(
                f"{self.name}: expected a {split} split; it has only {', '.join(self.splits)}."
            )
        every = self.splits["all"]()
        if every.count < 2:
            reasons = "".join(f"; {line}" for line in summary(every.skipped))
            raise UserError(
                f"{self.name}: expected at least two images; got {every.count}{reasons}."
            )
        held = held_out(every.keys())
        part = every.only(held if split == "test" else ~held)
        return replace(part, notes=(*every.notes, NO_TEST_SPLIT))

    def load(self, target: Target) -> ImageData:
        """Decode both splits to memory.

        Args:
            target: what to convert the images to; `keep` applies only to the training split.

        Raises:
            UserError: a split has no readable image, or its images differ in shape.
        """
        findings = Findings()
        notes: list[str] = []

        def decoded(split: str, called: str, target: Target) -> ImageSplit:
            reader = self.reader(split)
            findings.skipped += reader.skipped
            notes.extend(reader.notes)
            return decode_split(reader, reader.count, target, called, findings)

        train = decoded("train", "training", target)
        test = decoded("test", "test", target._replace(keep=1))
        # With a held-out part, both splits come from the same reader.
        findings.skipped = [*dict.fromkeys(findings.skipped)]
        all_notes = (*dict.fromkeys(notes), *findings.notes)
        data = ImageData(self.name, train, test, all_notes, skipped=tuple(findings.skipped))
        return self.finished(data, target)


def of_files(files: Sequence[tuple[str, Path]], skipped: Sequence[Skipped] = ()) -> Reader:
    """A reader of image files.

    Args:
        files: names and paths.
        skipped: what was skipped while finding them.
    """

    def items(wanted: Mask | None) -> Iterator[Encoded]:
        for file in files if wanted is None else compress(files, wanted):
            yield Encoded(*file)

    return Reader(len(files), items, lambda: [name for name, _ in files], tuple(skipped))


def of_arrays(images: NDArray[np.uint8], labels: NDArray[np.int64], name: str) -> Reader:
    """A reader of images in memory.

    Args:
        images: (n, c, h, w).
        labels: (n,).
        name: the source's name; images are named name/row.
    """
    names = [f"{name}/{row:06d}" for row in range(len(images))]

    def items(wanted: Mask | None) -> Iterator[Encoded]:
        for row in range(len(images)) if wanted is None else np.flatnonzero(wanted):
            yield Encoded(names[row], images[row], int(labels[row]))

    return Reader(len(images), items, lambda: names)


def joined(readers: Sequence[Reader]) -> Reader:
    """A reader of several readers' images, one after the other."""
    ends = np.cumsum([reader.count for reader in readers])

    def items(wanted: Mask | None) -> Iterator[Encoded]:
        masks = [None] * len(readers) if wanted is None else np.split(wanted, ends[:-1])
        for reader, mask in zip(readers, masks, strict=True):
            yield from reader.items(mask)

    return Reader(
        int(ends[-1]),
        items,
        lambda: [key for reader in readers for key in reader.keys()],
        tuple(each for reader in readers for each in reader.skipped),
        tuple(note for reader in readers for note in reader.notes),
    )
