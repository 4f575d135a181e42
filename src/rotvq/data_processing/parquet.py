"""Parquet files in the layouts of the Hugging Face Hub: train-*.parquet or train/0000.parquet."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rotvq.data_processing import parquet_pages
from rotvq.data_processing.arrow import (
    TEST_NAMES,
    Columns,
    Resolve,
    class_names,
    columns_of,
    encoded,
    holds_images,
    inside,
    recognized,
)
from rotvq.data_processing.decoding import Encoded
from rotvq.data_processing.parquet_pages import PageError
from rotvq.data_processing.reader import ImageSource, Reader, Rows, digest, portions
from rotvq.errors import UserError, first_line
from rotvq.text import encodable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def find_parquet(folder: Path) -> Path | None:
    """The folder, or its only subfolder (`data`, `default`, …), that holds the files of `train`.

    Raises:
        UserError: several subfolders qualify.
    """
    if _files(folder, "train"):
        return folder
    found = [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and _files(sub, "train")]
    if len(found) > 1:
        raise UserError(
            f"{folder}: expected one dataset; got several datasets "
            f"({', '.join(sub.name for sub in found)}). Pass the path of one of them."
        )
    return found[0] if found else None


def open_parquet(path: Path) -> ImageSource:
    """Open a Parquet file, or a folder with those of `train` and perhaps `test`.

    Raises:
        UserError: the first file is damaged or has no column of images.
    """
    if path.is_file():
        train, test = [path], []
    else:
        train = _files(path, "train")
        test = next((found for name in TEST_NAMES if (found := _files(path, name))), [])
    columns = _first_columns(train[0])
    # Paths in the rows of a single file have no folder to be relative to.
    root, resolve = (path.parent, _nowhere) if path.is_file() else (path, partial(inside, path))
    splits = {"train" if test else "all": partial(_reader, root, train, columns, resolve)}
    if test:
        splits["test"] = partial(_reader, root, test, columns, resolve)
    name = path.resolve().name
    return ImageSource(name, splits, partial(recognized, columns, "CIFAR-10 (Parquet)"))


def _files(folder: Path, split: str) -> list[Path]:
    patterns = (f"{split}[-.]*parquet", f"{split}/[0-9]*.parquet")
    return sorted(path for each in patterns for path in folder.glob(each) if path.is_file())


def _nowhere(path: str) -> None:
    return None


def _reader(root: Path, paths: Sequence[Path], columns: Columns, resolve: Resolve) -> Reader:
    counts = [_count(path, columns) for path in paths]
    named = {encodable(path.relative_to(root).as_posix()): path for path in paths}
    return Reader(
        sum(counts),
        partial(_items, named, counts, columns, resolve),
        lambda: [*map(str, range(sum(counts)))],
        lambda: digest(part for named_path in named.items() for part in _identity(*named_path)),
        notes=_missing(paths),
        classes=_classes(paths[0], columns),
    )


def _items(
    named: Mapping[str, Path],
    counts: Sequence[int],
    columns: Columns,
    resolve: Resolve,
    rows: Rows | None,
) -> Iterator[Encoded]:
    files = [*named.items()]
    for part, its_rows in portions(counts, rows):
        name, path = files[part]
        with _opened(path) as file:
            its_own = _columns(file.schema_arrow) or columns  # captions may be missing
            leaves = _leaves(file.schema_arrow, its_own)
            batches = parquet_pages.batches(file, path, leaves, rows=its_rows)
            yield from encoded(batches, its_own, name, its_rows, resolve)


def _identity(name: str, path: Path) -> Iterator[str | bytes]:
    yield name
    with path.open("rb") as file:
        yield parquet_pages.footer(file)


def _missing(paths: Sequence[Path]) -> tuple[str, ...]:
    total = re.search(r"-of-(\d+)\.parquet$", paths[0].name)
    if total is None or int(total[1]) == len(paths):
        return ()
    split = paths[0].name.partition("-")[0]
    return (f"{len(paths)} of {int(total[1])} Parquet files of the {split} split",)


@contextmanager
def _opened(path: Path) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa

    try:
        with parquet_pages.open_file(path) as file:
            yield file
    except (pa.ArrowException, PageError, OSError, MemoryError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: expected a Parquet file; it cannot be read: {first_line(error)}."
        ) from None


def _count(path: Path, columns: Columns) -> int:
    with _opened(path) as file:
        if (_columns(file.schema_arrow) or ())[:2] != columns[:2]:
            names = ", ".join(name for name in columns[:2] if name is not None)
            raise UserError(
                f"{path}: expected the columns {names} of the other files; it lacks them."
            )
        return parquet_pages.count_rows(file, path)


def _classes(path: Path, columns: Columns) -> tuple[str, ...]:
    with _opened(path) as file:
        return class_names(file.schema_arrow, columns.label)


def _first_columns(path: Path) -> Columns:
    with _opened(path) as file:
        schema = file.schema_arrow
    columns = _columns(schema)
    if columns is None:
        raise UserError(
            f"{path}: expected a column of images, such as 'image' {{bytes, path}}; got "
            f"{', '.join(schema.names) or 'no columns'}."
        )
    return columns


def _columns(schema: "pa.Schema") -> Columns | None:
    kinds = {field.name: field.type for field in schema}
    images = [name for name, kind in kinds.items() if holds_images(kind)]
    if not images:
        return None
    image = next((name for name in ("img", "image") if name in images), images[0])
    return columns_of(image, kinds)


def _leaves(schema: "pa.Schema", columns: Columns) -> list[str]:
    """The Parquet names of the columns; of an image, only bytes and path."""
    import pyarrow as pa

    kind = schema.field(columns.image).type
    fields = [part.name for part in kind] if pa.types.is_struct(kind) else []
    image = [f"{columns.image}.{part}" for part in ("bytes", "path") if part in fields]
    return [*(image or [columns.image]), *(name for name in columns[1:] if name is not None)]
