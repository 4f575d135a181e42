"""Images in Arrow tables from any source."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rotvq.data_processing import cifar10
from rotvq.data_processing.decoding import Encoded
from rotvq.data_processing.image_formats import Unreadable
from rotvq.data_processing.reader import LONGEST_CAPTION, Rows
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.splits import ImageData

if TYPE_CHECKING:
    import pyarrow as pa

TEST_NAMES = ("test", "validation", "valid", "val")
CAPTIONS = ("caption", "text")
"""Column names that hold captions."""

Resolve = Callable[[str], Path | None]
"""Maps a row's path to a file of the dataset, or None."""


class Columns(NamedTuple):
    """The columns of the image ({bytes, path} or bytes) and, if any, the class and the caption."""

    image: str
    label: str | None = None
    caption: str | None = None


def encoded(
    batches: "Iterable[tuple[int, pa.RecordBatch]]",
    columns: Columns,
    name: str,
    rows: Rows | None,
    resolve: Resolve,
) -> Iterator[Encoded]:
    """Rows of a table, named NAME/row.

    Args:
        batches: parts of the table that hold these rows, each with the number of its first row.
        columns: the columns to read.
        name: the table's name.
        rows: which rows; None for all.
        resolve: maps a row's path to a file.
    """
    for start, batch in batches:
        within: Iterable[int] = range(len(batch))
        if rows is not None:
            first, last = np.searchsorted(rows, (start, start + len(batch)))
            within = (rows[first:last] - start).tolist()
        images = _Images(batch.column(columns.image))
        labels = batch.column(columns.label) if columns.label else None
        captions = batch.column(columns.caption) if columns.caption else None
        for i in within:
            key = f"{name}/{start + i:06d}"
            label = labels[i].as_py() if labels is not None else None
            content = images.content(i, key, resolve)
            yield Encoded(key, content, label, _text(captions[i]) if captions else None)


def recognized(columns: Columns, name: str, data: ImageData, target: Target) -> ImageData:
    """The dataset; if it is CIFAR-10, with its name and with notes on missing images."""
    n, m, labels = len(data.train.images), len(data.test.images), data.train.labels
    if (
        (columns.image, columns.label) == ("img", "label")
        and labels is not None
        and labels.max() <= 9
        and n <= cifar10.TRAIN_IMAGES
        and m <= cifar10.TEST_IMAGES
        and target.sides is None
        and data.train.images.shape[2:] == (32, 32)
    ):
        return replace(data, name=name, notes=cifar10.count_notes(n, m) + data.notes)
    return data


def columns_of(image: str, kinds: "Mapping[str, pa.DataType]") -> Columns:
    """The column of the images, and those of the classes and captions, if any."""
    label = "label" if "label" in kinds and holds_labels(kinds["label"]) else None
    captions = (name for name in CAPTIONS if name in kinds and holds_text(kinds[name]))
    return Columns(image, label, next(captions, None))


def holds_images(kind: "pa.DataType") -> bool:
    """Whether a column of this type can hold images."""
    import pyarrow as pa

    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def holds_labels(kind: "pa.DataType") -> bool:
    """Whether a column of this type can hold int64 classes."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) and kind != pa.uint64())


def class_names(schema: "pa.Schema", label: str | None) -> tuple[str, ...]:
    """Names of the classes of a column, from the metadata that `datasets` writes; () if none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):  # other metadata, or none
        return ()
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if texts else ()


def holds_text(kind: "pa.DataType") -> bool:
    """Whether a column of this type can hold captions or paths."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


class _Images:
    """A column of images: bytes, or {bytes, path}."""

    def __init__(self, column: "pa.Array") -> None:
        import pyarrow as pa

        self.bytes, self.paths = column, None
        if pa.types.is_struct(column.type):
            # flatten() applies the nulls of the struct to its fields.
            parts = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
            paths = parts.get("path")
            self.bytes = parts["bytes"]
            self.paths = paths if paths is not None and holds_text(paths.type) else None

    def content(self, i: int, key: str, resolve: Resolve) -> bytes | Path | Unreadable:
        content: bytes | None = self.bytes[i].as_py()
        if content is not None:
            return content
        path = _text(self.paths[i]) if self.paths is not None else None
        if not path:
            return Unreadable("no image in the row")
        return resolve(path) or Unreadable("path outside the dataset", path)


def _text(cell: Any) -> str | None:
    """A cell's text, truncated if very long; bytes that are not UTF-8 are replaced."""
    if not cell.is_valid:
        return None
    return bytes(cell.as_buffer()[:LONGEST_CAPTION]).decode("utf-8", "replace")


def inside(root: Path, path: str) -> Path | None:
    """The regular file inside a folder that an absolute or relative path names, or None."""
    try:
        found = (root / path).resolve()
        return found if found.is_relative_to(root.resolve()) and found.is_file() else None
    except (OSError, ValueError):  # too long, or with a null
        return None
