"""A common interface to images in folders, shards, Parquet files, the Hub and arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotvq.data_processing.decoding import Encoded, Findings, decode_split
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.skipped import Skipped, summary
from rotvq.data_processing.splits import ImageData, ImageSplit, held_out
from rotvq.errors import UserError
from rotvq.text import encodable

SPLITS = ("train", "test", "all")
DIFFERENT_CLASSES = "the sources name their classes differently: labels are numbers of each source"
NO_TEST_SPLIT = "no test split found: 10 % of the images are held out"
TEST_SPLIT = "only the test split is read: pass --split all or --split train for other images"
LONGEST_CAPTION = 2**16
"""Maximum bytes of a caption; longer ones are truncated."""

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
"""Numbers of images in a source, ascending."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Images in order, before decoding; can be read more than once, also in another process.

    Args:
        count: the number of images, readable or not.
        items: yields all images, or some; files without any of those are not read. Picklable.
        keys: one key per image, which decides whether it is held out.
        fingerprint: 16 hex digits that change with the images, as far as names, sizes and tables
            of contents tell.
        skipped: what was skipped before any image was opened.
        notes: remarks for the user.
        classes: names of the classes by label; empty if they have none.
    """

    count: int
    items: Callable[[Rows | None], Iterator[Encoded]]
    keys: Callable[[], Sequence[str]]
    fingerprint: Callable[[], str]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Encoded]:
        return self.items(None)

    def only(self, mask: Mask) -> Reader:
        """A reader of the selected images."""
        chosen = np.flatnonzero(mask)
        return replace(
            self,
            count=len(chosen),
            items=partial(_chosen_items, self.items, chosen),
            keys=lambda: [*compress(self.keys(), mask)],
            fingerprint=lambda: digest([self.fingerprint(), np.packbits(mask).tobytes()]),
        )


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A dataset that is read on demand.

    Args:
        name: the displayed name.
        splits: opens a reader for "train" and "test" if the source has them, otherwise for "all".
        finished: adds name and notes to the decoded dataset.
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
        readers = {split: self.reader(split) for split in ("train", "test")}

        def decoded(split: str, called: str, target: Target) -> ImageSplit:
            reader = readers[split]
            findings.skipped += reader.skipped
            return decode_split(reader, reader.count, target, called, findings)

        train = decoded("train", "training", target)
        test = decoded("test", "test", target._replace(keep=1))
        notes = [note for reader in readers.values() for note in reader.notes]
        # With a held-out part, both splits come from the same reader.
        findings.skipped = [*dict.fromkeys(findings.skipped)]
        all_notes = (*dict.fromkeys(notes), *findings.notes)
        classes, skipped = readers["train"].classes, tuple(findings.skipped)
        data = ImageData(self.name, train, test, all_notes, skipped=skipped, classes=classes)
        return self.finished(data, target)


def of_files(files: Sequence[tuple[str, Path]], skipped: Sequence[Skipped] = ()) -> Reader:
    """A reader of image files.

    Args:
        files: names and paths; bytes of a name that are not UTF-8 are written as %XX.
        skipped: what was skipped while finding them.
    """
    files = [(encodable(name), path) for name, path in files]
    return Reader(
        len(files),
        partial(_file_items, files),
        lambda: [name for name, _ in files],
        lambda: digest(part for name, path in files for part in (name, size_of(path))),
        tuple(skipped),
    )


def of_arrays(
    images: NDArray[np.uint8], labels: NDArray[np.int64], name: str, classes: tuple[str, ...] = ()
) -> Reader:
    """A reader of images in memory.

    Args:
        images: (n, c, h, w).
        labels: (n,).
        name: the source's name; images are named name/row.
        classes: names of the classes by label.
    """
    return Reader(
        len(images),
        partial(_array_items, images, labels, name),
        lambda: [f"{name}/{row:06d}" for row in range(len(images))],
        lambda: digest([name, *images.shape, images, labels]),
        classes=classes,
    )


def joined(readers: Sequence[Reader]) -> Reader:
    """A reader of several readers' images, one after the other.

    Names of the classes are kept if they are the same in all of them.
    """
    counts = [reader.count for reader in readers]
    classes = {reader.classes for reader in readers}
    notes = [note for reader in readers for note in reader.notes]
    return Reader(
        sum(counts),
        partial(_joined_items, [reader.items for reader in readers], counts),
        lambda: [key for reader in readers for key in reader.keys()],
        lambda: digest(reader.fingerprint() for reader in readers),
        tuple(each for reader in readers for each in reader.skipped),
        (*notes, DIFFERENT_CLASSES) if len(classes) > 1 else tuple(notes),
        classes.pop() if len(classes) == 1 else (),
    )


def portions(counts: Sequence[int], rows: Rows | None) -> Iterator[tuple[int, Rows | None]]:
    """The parts of a whole that hold any of the rows, and the rows counted from each one's start.

    Args:
        counts: rows of each part, in order.
        rows: rows of the whole, ascending; None for all, also of each part.
    """
    start = 0
    for part, count in enumerate(counts):
        first, last = (0, count) if rows is None else np.searchsorted(rows, (start, start + count))
        if first < last:
            yield part, None if rows is None else rows[first:last] - start
        start += count


def digest(parts: Iterable[str | int | bytes | NDArray[Any]]) -> str:
    """16 hex digits of the SHA-256 of the parts and their lengths."""
    whole = hashlib.sha256()
    for part in parts:
        content: Any = os.fsencode(str(part)) if isinstance(part, str | int) else part
        whole.update(b"%d " % memoryview(content).nbytes)
        whole.update(content)
    return whole.hexdigest()[:16]


def size_of(path: Path) -> int:
    """Bytes of a file; -1 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


# What readers call is neither a closure nor a method of something large: worker processes get it.
def _chosen_items(
    items: Callable[[Rows], Iterator[Encoded]], chosen: Rows, rows: Rows | None
) -> Iterator[Encoded]:
    return items(chosen if rows is None else chosen[rows])


def _file_items(files: Sequence[tuple[str, Path]], rows: Rows | None) -> Iterator[Encoded]:
    return (Encoded(*file) for file in (files if rows is None else (files[i] for i in rows)))


def _array_items(
    images: NDArray[np.uint8], labels: NDArray[np.int64], name: str, rows: Rows | None
) -> Iterator[Encoded]:
    for row in range(len(images)) if rows is None else rows:
        yield Encoded(f"{name}/{row:06d}", images[row], int(labels[row]))


def _joined_items(
    items: Sequence[Callable[[Rows | None], Iterator[Encoded]]],
    counts: Sequence[int],
    rows: Rows | None,
) -> Iterator[Encoded]:
    for part, its_own in portions(counts, rows):
        yield from items[part](its_own)
