"""Batches of bounded bytes, and the headers of pages against what pyarrow says of them."""

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rotvq.data_processing import parquet_pages
from rotvq.data_processing.parquet_pages import (
    PageError,
    batches,
    longest_page,
    open_file,
    row_groups,
)

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
            numbered = list(batches(file, path, ["image.bytes", "image.path", "label"]))
        starts, read = zip(*numbered, strict=True)
        assert pa.Table.from_batches(read).equals(table)
        assert list(starts) == np.cumsum([0, *map(len, read)])[:-1].tolist()
        assert all(len(batch) == 1 or batch.nbytes <= most + 64 * len(batch) for batch in read)
    assert max(map(len, read)) > 1


@pytest.mark.parametrize("options", OPTIONS)
def test_no_value_is_longer_than_the_longest_page(tmp_path, options):
    path = tmp_path / "a.parquet"
    write(path, [10, 5000, 70], **options)
    group = pq.read_metadata(path).row_group(0)
    with path.open("rb") as raw:
        ((_, columns),) = row_groups(raw)
        longest = longest_page(raw, columns, ["image.bytes"])
        assert longest_page(raw, columns, ["label"]) < 100
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
        ((start, batch),) = batches(file, path, ["image"])
    assert start == 0 and pa.Table.from_batches([batch]).equals(table)


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


@pytest.mark.parametrize("options", OPTIONS)
def test_the_footer_is_read_as_pyarrow_reads_it(tmp_path, options):
    path = tmp_path / "a.parquet"
    write(path, range(1, 151), **options)
    metadata = pq.read_metadata(path)
    with path.open("rb") as raw:
        groups = row_groups(raw)
    assert len(groups) == metadata.num_row_groups == 3
    for number, (count, group) in enumerate(groups):
        assert count == metadata.row_group(number).num_rows
        theirs = [metadata.row_group(number).column(i) for i in range(metadata.num_columns)]
        assert [column.leaf for column in group] == [each.path_in_schema for each in theirs]
        for ours, each in zip(group, theirs, strict=True):
            assert ours.numbers[5] == each.num_values
            assert ours.numbers[7] == each.total_compressed_size
            assert ours.numbers[9] == each.data_page_offset
            assert ours.numbers.get(11) == (
                each.dictionary_page_offset if each.has_dictionary_page else None
            )


CHILD = """
import sys
from pathlib import Path
from rotvq.data_processing import load
from rotvq.errors import UserError

whole, place = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
for number in range(footer, len(whole)):
    changed = bytearray(whole)
    changed[number] ^= 1 << number % 8
    place.write_bytes(changed)
    try:
        load(str(place), size=8)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
print("whole")
"""


def test_no_changed_byte_of_a_footer_ends_the_process(tmp_path):
    """Columns whose statistics contradict themselves would, as pyarrow describes them."""
    images = [{"bytes": png(seed), "path": None} for seed in range(4)]
    path = tmp_path / "train-0.parquet"
    pq.write_table(pa.table({"image": images, "label": [0, 1, 2, 3]}), path)
    child = [sys.executable, "-c", CHILD, str(path), str(tmp_path / "changed.parquet")]
    done = subprocess.run(child, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-500:]


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
