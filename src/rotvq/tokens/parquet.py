"""Token files as Parquet: a row per image. See `rotvq.tokens.file`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rotvq.data_processing import parquet_pages
from rotvq.tokens.collection import Tokens
from rotvq.tokens.header import as_text, read_classes, read_codec

_COLUMNS = ("tokens", "height", "width", "name", "label", "caption")


def write_parquet(path: Path, tokens: Tokens, header: Mapping[str, Any]) -> None:
    """Write tokens as Parquet."""
    ends = np.cumsum([0, *map(tokens.codec.bytes_of, tokens.sizes)])
    packed = [tokens.packed[a:b] for a, b in pairwise(ends)]
    columns = {
        "tokens": pa.array(packed, pa.binary()),
        "height": pa.array([h for h, _ in tokens.sizes], pa.int32()),
        "width": pa.array([w for _, w in tokens.sizes], pa.int32()),
    }
    for name, values, kind in (
        ("name", tokens.names, pa.string()),
        ("label", tokens.labels, pa.int64()),
        ("caption", tokens.captions, pa.string()),
    ):
        if values is not None:
            columns[name] = pa.array(values, kind)
    table = pa.table(columns).replace_schema_metadata(as_text(header))
    # Lengths are stored as differences, which take no space for images of one size.
    with path.open("wb") as file:  # Arrow cannot open a path that is not UTF-8.
        pq.write_table(
            table,
            file,
            compression="zstd",
            use_dictionary=["height", "width"],
            column_encoding={"tokens": "DELTA_LENGTH_BYTE_ARRAY"},
            write_statistics=False,
        )


def read_parquet(path: Path, expansion: int) -> Tokens:
    """Read tokens from Parquet.

    Args:
        path: path of the file.
        expansion: the columns may take this many times the file's size in memory.

    Raises:
        Exception: any exception, if the file is damaged.
    """
    with parquet_pages.open_file(path) as file:
        schema = file.schema_arrow
        columns = [name for name in _COLUMNS if name in schema.names]
        sides = [schema.field(name).type for name in ("height", "width")]
        if not all(map(pa.types.is_integer, sides)):
            raise ValueError("its heights and widths are not integers")
        batches = [batch for _, batch in parquet_pages.batches(file, path, columns, expansion)]
        table = pa.Table.from_batches(batches, pa.schema([schema.field(c) for c in columns]))
    header = _metadata(schema)
    codec = read_codec(header)
    parts = {name: table[name].to_pylist() for name in columns}
    sizes = list(zip(parts["height"], parts["width"], strict=True))
    rows = parts["tokens"]
    if any(len(row) != codec.bytes_of(size) for row, size in zip(rows, sizes, strict=True)):
        raise ValueError("its sizes do not match its tokens")
    names, labels, captions = map(parts.get, ("name", "label", "caption"))
    packed, classes = b"".join(rows), read_classes(header)
    return Tokens(codec, sizes, packed, names, labels, captions, classes)


def read_parquet_header(path: Path) -> dict[str, str]:
    """The header of a file.

    Raises:
        Exception: any exception, if the file is damaged.
    """
    with parquet_pages.open_file(path) as file:
        return _metadata(file.schema_arrow)


def _metadata(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
