"""Images in Arrow tables, wherever the tables come from."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotvq.data_processing import cifar10
from rotvq.data_processing.decoding import Encoded, Findings, Target, decode_split
from rotvq.data_processing.splits import ImageData, held_out
from rotvq.errors import UserError

TEST_NAMES = ("test", "validation", "valid", "val")
ROWS_AT_A_TIME = 1024


class Columns(NamedTuple):
    """Which columns hold the image ({bytes, path} or bytes) and the class, if any."""

    image: str
    label: str | None


class Table(NamedTuple):
    """One split: its rows, and a way to read them, in batches of Arrow, as often as needed."""

    rows: int
    read: Callable[[], Iterable[Any]]


def load_tables(
    name: str, train: Table, test: Table | None, columns: Columns, target: Target
) -> ImageData:
    """Decode two tables; CIFAR-10 is known by its columns and counted, whatever its name.

    Raises UserError where nothing is readable or the shapes differ.
    """
    notes: tuple[str, ...] = ()
    if test is None:
        if train.rows < 2:
            raise UserError(f"{name}: expected at least two images, received {train.rows}")
        mask = held_out([str(row) for row in range(train.rows)])
        kept, held = ~mask, mask
        test, notes = train, ("no test split found: 10 % of the training images held out",)
    else:
        kept, held = np.ones(train.rows, np.bool_), np.ones(test.rows, np.bool_)
    findings = Findings()
    train_split = decode_split(
        _encoded(train, columns, kept, "training"), int(kept.sum()), target, "training", findings
    )
    test_split = decode_split(
        _encoded(test, columns, held, "test"), int(held.sum()), target, "test", findings
    )
    notes += findings.notes
    n, m = len(train_split.images), len(test_split.images)
    if (
        columns == Columns("img", "label")
        and train_split.labels is not None
        and train_split.labels.max() <= 9
        and n <= cifar10.TRAIN_IMAGES
        and m <= cifar10.TEST_IMAGES
        and target.sides is None
        and train_split.images.shape[2:] == (32, 32)
    ):
        name, notes = "CIFAR-10", cifar10.count_notes(n, m) + notes
    return ImageData(name, train_split, test_split, notes, skipped=tuple(findings.skipped))


def _encoded(
    table: Table, columns: Columns, wanted: NDArray[np.bool_], split: str
) -> Iterator[Encoded]:
    row = 0
    for batch in table.read():
        try:
            images = batch.column(columns.image).to_pylist()
        except UnicodeDecodeError:
            raise UserError(
                f"expected {split} images with names in UTF-8; the file is damaged"
            ) from None
        labels = batch.column(columns.label).to_pylist() if columns.label else [None] * len(images)
        for image, label in zip(images, labels, strict=True):
            if wanted[row]:
                yield Encoded(f"{split} row {row}", _content(image), label)
            row += 1


def _content(image: dict[str, Any] | bytes | None) -> bytes | Path | None:
    if not isinstance(image, dict):
        return image
    content: bytes | None = image["bytes"]
    if content is None and image.get("path"):
        path = Path(image["path"])
        return path if path.is_file() else None  # not a pipe, which would never end
    return content
