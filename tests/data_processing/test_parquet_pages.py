"""Batches of bounded bytes, and the headers of pages against what pyarrow says of them."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rotvq.data_processing import parquet_pages
from rotvq.data_processing.parquet_pages import PageError, batches, longest_page, open_file

OPTIONS = [
    {"compression": "none", "use_dictionary": False},
    {"compression": "zstd", "use_dictionary": True},
    {"compression": "snappy", "use_dictionary": False, "data_page_version": "2.0"},
    {"use_dictionary": False, "column_encoding": {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"}},
    {"compression": "gzip", "use_dictionary": False, "data_page_size": 1000},
    {"compression": "none", "write_page_checksum": True, "write_page_index": True},
]


def write(path, sizes, **options):
    """Rows {bytes, path}, of which the last has none, and a label."""
    draw = np.random.default_rng(0)
    cells = [{"bytes": draw.bytes(size), "path": f"{i}.png"} for i, size in enumerate(sizes)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels = list(range(len(sizes)))
    table = pa.table({"image": pa.array([*cells, None], kind), "label": [*labels, None]})
    pq.write_table(table, path, row_group_size=70, **options)
    return table


@pytest.mark.parametrize("options", OPTIONS)
def test_batches_hold_all_rows_and_few_bytes(tmp_path, monkeypatch, options):
    path = tmp_path / "a.parquet"
    table = write(path, np.random.default_rng(0).integers(1, 3000, 200), **options)
    for most in (1, 5_000, 20_000, 2**26):
        monkeypatch.setattr(parquet_pages, "BATCH_BYTES", most)
        with open_file(path) as file:
            read = list(batches(file, path, ["image.bytes", "image.path", "label"]))
        assert pa.Table.from_batches(read).equals(table)
        assert all(len(batch) == 1 or batch.nbytes <= most + 64 * len(batch) for batch in read)
    assert max(map(len, read)) > 1


@pytest.mark.parametrize("options", OPTIONS)
def test_no_value_is_longer_than_the_longest_page(tmp_path, options):
    path = tmp_path / "a.parquet"
    write(path, [10, 5000, 70], **options)
    group = pq.read_metadata(path).row_group(0)
    with path.open("rb") as raw:
        longest = longest_page(raw, group, ["image.bytes"])
        assert longest_page(raw, group, ["label"]) < 100
    column = next(
        group.column(i)
        for i in range(group.num_columns)
        if group.column(i).path_in_schema == "image.bytes"
    )
    assert 5000 < longest <= column.total_uncompressed_size


def test_a_header_with_long_statistics_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    values = [bytes([65 + i]) * 9000 for i in range(3)]
    table = pa.table({"image": values})
    pq.write_table(table, path, use_dictionary=False, write_statistics=True)
    with open_file(path) as file:
        assert pa.Table.from_batches(batches(file, path, ["image"])).equals(table)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\x15",  # a number that does not follow
        b"\x15" + b"\xff" * 20,
        b"\x1c" * 40,  # structs in structs
        b"\x18\xff\xff\xff\x7f",  # a text longer than all
        b"\x19\x00\x00",  # a list
        b"\x15\x00\x15\x00\x00",  # of a kind and an unpacked size alone
        b"\x15\x00\x15\x00\x15\x01\x00",  # of -1 bytes
    ],
)
def test_headers_that_are_damaged(header):
    with pytest.raises(PageError, match="the header of a page is damaged"):
        list(parquet_pages._pages(io.BytesIO(header), 0, 100, 100))


def test_pages_outside_of_the_file():
    with pytest.raises(PageError, match="lie outside"):
        list(parquet_pages._pages(io.BytesIO(b"\0" * 100), 50, 101, 100))
