"""Parquet files in the layout of the Hugging Face hub: train-*.parquet and test-*.parquet."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotvq.data_processing.arrow import ROWS_AT_A_TIME, TEST_NAMES, Columns, Table, load_tables
from rotvq.data_processing.decoding import Target
from rotvq.data_processing.splits import ImageData
from rotvq.errors import UserError, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def find_parquet(folder: Path) -> Path | None:
    """The folder itself, or its one subfolder (`data`, `plain_text`, …), with train-*.parquet.

    Raises UserError where several subfolders qualify.
    """
    if _shards(folder, "train"):
        return folder
    found = [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and _shards(sub, "train")]
    if len(found) > 1:
        raise UserError(
            f"{folder} holds several data sets ({', '.join(sub.name for sub in found)}): "
            "give the path of one of them"
        )
    return found[0] if found else None


def load_parquet(folder: Path, target: Target) -> ImageData:
    """Read train-*.parquet and test-*.parquet; without a test split, a tenth is held out.

    Raises UserError, naming the file, where one is damaged or has no column of images.
    """
    train = _shards(folder, "train")
    test = next((shards for name in TEST_NAMES if (shards := _shards(folder, name))), [])
    columns = _columns(train[0])
    data = load_tables(
        folder.resolve().name,
        _table(train, columns),
        _table(test, columns) if test else None,
        columns,
        target,
    )
    name = "CIFAR-10 (Parquet)" if data.name == "CIFAR-10" else data.name
    notes = (*_shard_notes(train), *_shard_notes(test), *data.notes)
    return replace(data, name=name, notes=notes)


def _shards(folder: Path, split: str) -> list[Path]:
    return sorted(folder.glob(f"{split}[-.]*parquet"))


def _shard_notes(shards: list[Path]) -> tuple[str, ...]:
    total = re.search(r"-of-(\d+)\.parquet$", shards[0].name) if shards else None
    if total is None or int(total[1]) == len(shards):
        return ()
    split = shards[0].name.partition("-")[0]
    return (f"{len(shards)} of {int(total[1])} Parquet files of the {split} split",)


def _columns(path: Path) -> Columns:
    import pyarrow as pa

    def is_image(field: "pa.Field") -> bool:
        kind = field.type
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    with _open(path) as file:
        schema = file.schema_arrow
    candidates = [field.name for field in schema if is_image(field)]
    image = next((name for name in ("img", "image") if name in candidates), None)
    if image is None:
        if not candidates:
            raise UserError(
                f"{path} has no column of images: expected 'img' or 'image' {{bytes, path}}, "
                f"received {', '.join(schema.names) or 'no columns'}"
            )
        image = candidates[0]
    labelled = "label" in schema.names and pa.types.is_integer(schema.field("label").type)
    return Columns(image, "label" if labelled else None)


def _table(paths: list[Path], columns: Columns) -> Table:
    names = [name for name in columns if name is not None]

    def read() -> Iterator[Any]:
        for path in paths:
            with _open(path) as file:
                yield from file.iter_batches(ROWS_AT_A_TIME, columns=names)

    rows = 0
    for path in paths:
        with _open(path) as file:
            rows += file.metadata.num_rows
            if not set(names) <= set(file.schema_arrow.names):
                raise UserError(f"{path} lacks the columns {', '.join(names)} of its sister files")
    return Table(rows, read)


@contextmanager
def _open(path: Path) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {first_line(error)}") from None
