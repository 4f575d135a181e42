"""Batches of a Parquet file, of bounded bytes.

A dictionary page of a few kilobytes can stand for any number of long values, and what the footer
says of sizes need not be true. A value, however, is never longer than the page that it lies on, and
the page's own header says how much Arrow will unpack: so every header is read before the first
page is, and a batch has so few rows that each of them may be as long as the longest page.

Source: parquet-format, `parquet.thrift` (PageHeader); Thrift's compact protocol.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_BYTES = 2**26
ROWS = 1024
"""Of a batch, at most."""
PAGE_BYTES, EXPANSION = 2**26, 20
"""A page may unpack to so many bytes and, beyond them, to so many times its size."""
ROW_EXPANSION = 100
HEADER_BYTES = (2**12, 2**24)
"""Of a page's header, which may hold the smallest and the largest value: usual, and at most."""

_UNPACKED, _PACKED = 2, 3
_DAMAGED = "the header of a page is damaged"

Leaf = str
"""A column as Parquet names it: the path in the schema, "image.bytes"."""


class PageError(ValueError):
    """Pages that are damaged, or made to unpack to far more than their size."""


@contextmanager
def open_file(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, to be read in small pieces: otherwise Arrow reads a whole column at once."""
    import pyarrow.parquet as pq

    with (
        path.open("rb") as raw,  # Arrow opens no path that is not UTF-8.
        pq.ParquetFile(raw, pre_buffer=False, buffer_size=2**16) as file,
    ):
        yield file


def batches(
    file: pq.ParquetFile, path: Path, leaves: Sequence[Leaf], expansion: int = ROW_EXPANSION
) -> Iterator[pa.RecordBatch]:
    """The rows of some columns, in batches of at most BATCH_BYTES, or of one row.

    Args:
        file: from `open_file`.
        path: of the file.
        leaves: the columns.
        expansion: times its size on the disk that all rows together may take, beyond PAGE_BYTES.

    Raises:
        PageError: a header is damaged, or the rows would unpack to far more than the file's size.
    """
    with path.open("rb") as raw:
        room = PAGE_BYTES + expansion * os.fstat(raw.fileno()).st_size
        for group in range(file.metadata.num_row_groups):
            longest = longest_page(raw, file.metadata.row_group(group), leaves)
            rows = min(ROWS, max(1, BATCH_BYTES // max(1, longest)))
            for batch in file.iter_batches(rows, row_groups=[group], columns=[*leaves]):
                room -= batch.nbytes
                if room < 0:
                    raise PageError("its rows take far more room than it should")
                yield batch


def count_rows(file: pq.ParquetFile, path: Path) -> int:
    """The number of rows; no file of images has more of them than bytes.

    Raises:
        PageError: it claims more.
    """
    rows: int = file.metadata.num_rows
    size = path.stat().st_size
    if rows > size:
        raise PageError(f"it claims to hold {rows:,} images in {size:,} bytes")
    return rows


def longest_page(raw: IO[bytes], group: Any, leaves: Sequence[Leaf]) -> int:
    """The most bytes that a page of these columns unpacks to.

    Args:
        raw: the file.
        group: metadata of a row group.
        leaves: columns.

    Raises:
        PageError: a page unpacks to far more than its size, or a header is damaged.
    """
    longest, size = 0, os.fstat(raw.fileno()).st_size
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema not in leaves or not column.num_values:
            continue
        start = column.data_page_offset
        if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
            start = column.dictionary_page_offset
        for unpacked, packed in _pages(raw, start, start + column.total_compressed_size, size):
            if unpacked > PAGE_BYTES + EXPANSION * packed:
                raise PageError(f"a page of {packed:,} bytes would unpack to {unpacked:,}")
            longest = max(longest, unpacked)
    return longest


def _pages(raw: IO[bytes], position: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Bytes of each page, unpacked and as stored."""
    if not 0 <= position <= end <= size:
        raise PageError("its pages lie outside of it: the file is damaged or cut off")
    while position < end:
        length, sizes = _header(raw, position)
        unpacked, packed = sizes.get(_UNPACKED, -1), sizes.get(_PACKED, -1)
        if unpacked < 0 or packed < 0:
            raise PageError(_DAMAGED)
        yield unpacked, packed
        position += length + packed


def _header(raw: IO[bytes], position: int) -> tuple[int, dict[int, int]]:
    """Length of a page's header, and its numbers."""
    for most in HEADER_BYTES:
        raw.seek(position)
        header = _Struct(raw.read(most))
        with suppress(IndexError):
            numbers = header.numbers()
            return header.position, numbers
    raise PageError(_DAMAGED)


class _Struct:
    """A struct in Thrift's compact protocol."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def numbers(self, depth: int = 8) -> dict[int, int]:
        """Its integers by field; the whole struct is read past.

        Raises:
            IndexError: it is longer than its content.
        """
        if not depth:
            raise PageError(_DAMAGED)
        found: dict[int, int] = {}
        field = 0
        while kind := self._byte():
            field = field + (kind >> 4) if kind >> 4 else self._integer()
            match kind & 15:
                case 1 | 2:  # true, false: nothing follows
                    pass
                case 3:
                    self._byte()
                case 4 | 5 | 6:
                    found[field] = self._integer()
                case 7:
                    self.position += 8
                case 8:
                    length = self._varint()
                    self.position += length
                case 12:
                    self.numbers(depth - 1)
                case _:  # lists, sets and maps, which no header of a page has
                    raise PageError(_DAMAGED)
        return found

    def _byte(self) -> int:
        self.position += 1
        return self.content[self.position - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise PageError(_DAMAGED)

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)  # zigzag
