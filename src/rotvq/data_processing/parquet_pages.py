"""Reads a Parquet file in batches of bounded size.

A dictionary page of a few kilobytes can stand for any number of long values, and the sizes in the
footer may be wrong. A value, however, is never longer than its page, and the page's header states
how much Arrow will unpack. So all headers are read before the first page, and a batch has so few
rows that each may be as long as the longest page.

Source: parquet-format, `parquet.thrift`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from rotvq.data_processing.reader import Rows, portions
from rotvq.data_processing.thrift import INTEGERS, LIST, STRUCT, Compact, ThriftError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_BYTES = 2**26
ROWS = 1024
"""Maximum number of rows in a batch."""
PAGE_BYTES, EXPANSION = 2**26, 20
"""A page may unpack to PAGE_BYTES + EXPANSION times its size."""
ROW_EXPANSION = 100
HEADER_BYTES = (2**12, 2**24)
"""Usual and maximum bytes of a page's header, which may hold the smallest and largest value."""

# Fields of PageHeader, FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_UNPACKED, _PACKED = 2, 3
_ROW_GROUPS, _COLUMNS, _ROWS, _METADATA = 4, 1, 3, 3
_PATH, _VALUES, _PACKED_COLUMN, _DATA, _DICTIONARY = 3, 5, 7, 9, 11

_DAMAGED = "the header of a page is damaged"
_DAMAGED_FOOTER = "its footer is damaged"

Leaf = str
"""Parquet's name of a column: its path in the schema, such as "image.bytes"."""


class Chunk(NamedTuple):
    """A column of a row group: its name and the integers of its metadata, by field."""

    leaf: Leaf
    numbers: dict[int, int]


class RowGroup(NamedTuple):
    """A part of the rows: how many, and their columns."""

    rows: int
    columns: list[Chunk]


class PageError(ValueError):
    """Pages that are damaged, or unpack to far more than their size."""


@contextmanager
def open_file(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file for reading in small pieces; by default, Arrow reads a whole column at once."""
    import pyarrow.parquet as pq

    with (
        path.open("rb") as raw,  # Arrow cannot open a path that is not UTF-8.
        pq.ParquetFile(raw, pre_buffer=False, buffer_size=2**16) as file,
    ):
        yield file


def batches(
    file: pq.ParquetFile,
    path: Path,
    leaves: Sequence[Leaf],
    expansion: int = ROW_EXPANSION,
    rows: Rows | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of some columns, in batches of at most BATCH_BYTES or one row.

    Args:
        file: the result of `open_file`.
        path: the file's path.
        leaves: the columns to read.
        expansion: all rows may take PAGE_BYTES + expansion times the file's size.
        rows: skip row groups without any of these; None reads all.

    Yields:
        The number of its first row, and the batch.

    Raises:
        PageError: a header is damaged, or the rows unpack to far more than the file's size.
    """
    with path.open("rb") as raw:
        room = PAGE_BYTES + expansion * os.fstat(raw.fileno()).st_size
        groups = row_groups(raw)
        counts = [group.rows for group in groups]
        claimed = (file.metadata.num_row_groups, file.metadata.num_rows)
        if (len(counts), sum(counts)) != claimed or min(counts, default=0) < 0:
            raise PageError(_DAMAGED_FOOTER)
        ends = [*accumulate(counts)]
        for number, _ in portions(counts, rows):
            start = ends[number] - counts[number]
            longest = longest_page(raw, groups[number].columns, leaves)
            most = min(ROWS, max(1, BATCH_BYTES // max(1, longest)))
            for batch in file.iter_batches(most, row_groups=[number], columns=[*leaves]):
                room -= batch.nbytes
                if room < 0:
                    raise PageError("its rows take far more room than its size allows")
                yield start, batch
                start += len(batch)
            if start != ends[number]:
                raise PageError(_DAMAGED_FOOTER)


def count_rows(file: pq.ParquetFile, path: Path) -> int:
    """The number of rows; a file of images never has more rows than bytes.

    Raises:
        PageError: the file claims more rows.
    """
    rows: int = file.metadata.num_rows
    size = path.stat().st_size
    if rows > size:
        raise PageError(f"it claims to hold {rows:,} images in {size:,} bytes")
    return rows


def longest_page(raw: IO[bytes], group: Sequence[Chunk], leaves: Sequence[Leaf]) -> int:
    """The bytes that the longest page of some columns unpacks to.

    Args:
        raw: the file.
        group: the columns of a row group.
        leaves: the names of the columns to check.

    Raises:
        PageError: a page unpacks to far more than its size, or a header is damaged.
    """
    longest, size = 0, os.fstat(raw.fileno()).st_size
    for column in group:
        if column.leaf not in leaves or not column.numbers.get(_VALUES):
            continue
        start, length = (column.numbers.get(field, -1) for field in (_DATA, _PACKED_COLUMN))
        if 0 < column.numbers.get(_DICTIONARY, 0) < start:
            start = column.numbers[_DICTIONARY]
        for unpacked, packed in _pages(raw, start, start + length, size):
            if unpacked > PAGE_BYTES + EXPANSION * packed:
                raise PageError(f"a page of {packed:,} bytes would unpack to {unpacked:,}")
            longest = max(longest, unpacked)
    return longest


def footer(raw: IO[bytes]) -> bytes:
    """The file's table of contents.

    Raises:
        PageError: it is damaged.
    """
    raw.seek(-8, os.SEEK_END)
    length = int.from_bytes(raw.read(4), "little")
    if length > raw.seek(-8, os.SEEK_END):
        raise PageError(_DAMAGED_FOOTER)
    raw.seek(-8 - length, os.SEEK_END)
    return raw.read(length)


def row_groups(raw: IO[bytes]) -> list[RowGroup]:
    """The row groups, from the footer.

    pyarrow's own accessor aborts the process if a column's statistics contradict each other.

    Raises:
        PageError: the footer is damaged.
    """
    content = Compact(footer(raw))
    groups: list[RowGroup] = []
    try:
        for field, kind in content.fields():
            if (field, kind) == (_ROW_GROUPS, LIST):
                groups = [_row_group(content) for _ in range(content.elements()[0])]
            else:
                content.skip(kind)
    except (IndexError, ThriftError):
        raise PageError(_DAMAGED_FOOTER) from None
    return groups


def _row_group(footer: Compact) -> RowGroup:
    columns: list[Chunk] = []
    rows = 0
    for field, kind in footer.fields():
        if (field, kind) == (_COLUMNS, LIST):
            columns = [_column(footer) for _ in range(footer.elements()[0])]
        elif field == _ROWS and kind in INTEGERS:
            rows = footer.integer()
        else:
            footer.skip(kind)
    return RowGroup(rows, columns)


def _column(footer: Compact) -> Chunk:
    leaf, numbers = "", {}
    for field, kind in footer.fields():
        if (field, kind) != (_METADATA, STRUCT):
            footer.skip(kind)
            continue
        for inner, inner_kind in footer.fields():
            if (inner, inner_kind) == (_PATH, LIST):
                parts = [footer.bytes() for _ in range(footer.elements()[0])]
                leaf = b".".join(parts).decode("utf-8", "replace")
            elif inner_kind in INTEGERS:
                numbers[inner] = footer.integer()
            else:
                footer.skip(inner_kind)
    return Chunk(leaf, numbers)


def _pages(raw: IO[bytes], position: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """The unpacked and stored bytes of each page."""
    if not 0 <= position <= end <= size:
        raise PageError("its pages lie outside the file: it is damaged or truncated")
    while position < end:
        length, sizes = _header(raw, position)
        unpacked, packed = sizes.get(_UNPACKED, -1), sizes.get(_PACKED, -1)
        if unpacked < 0 or packed < 0:
            raise PageError(_DAMAGED)
        yield unpacked, packed
        position += length + packed


def _header(raw: IO[bytes], position: int) -> tuple[int, dict[int, int]]:
    """The length of a page's header, and its integers."""
    for most in HEADER_BYTES:
        raw.seek(position)
        header = Compact(raw.read(most))
        with suppress(IndexError, ThriftError):
            numbers = {}
            for field, kind in header.fields():
                if kind in INTEGERS:
                    numbers[field] = header.integer()
                else:
                    header.skip(kind)
            return header.position, numbers
    raise PageError(_DAMAGED)
