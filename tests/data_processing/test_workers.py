"""Images decoded in worker processes, against decoding in this one."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rotvq.data_processing import workers
from rotvq.data_processing.decoding import Findings, decoded
from rotvq.data_processing.pictures import open_pictures
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.workers import PIECE, Decoders
from rotvq.errors import UserError

TARGET = Target()
ROWS = 3 * PIECE + 40


def write(path, scale=1):
    """Images of two sizes, times a scale; every seventh is damaged."""
    cells = []
    for number in range(ROWS):
        stream = io.BytesIO()
        size = (5, 8) if number % 50 > 30 else (8, 8)
        size = (size[0] * scale, size[1] * scale)
        Image.new("RGB", size, (number % 256, number // 256, 0)).save(stream, "PNG")
        cells.append(b"" if number % 7 == 3 else stream.getvalue())
    table = pa.table({"image": cells, "label": list(range(ROWS)), "text": map(str, range(ROWS))})
    pq.write_table(table, path, row_group_size=70)
    return open_pictures([str(path)], None, TARGET)


def read(reader, ranges, number):
    with Decoders(reader.items, TARGET, ranges, number) as decoders:
        for rows in ranges:
            findings = Findings()
            yield [*decoders.images(rows, findings)], findings.skipped


@pytest.mark.parametrize("number", [0, 1, 3])
def test_images_come_in_order_with_all_that_belongs_to_them(tmp_path, number, monkeypatch):
    monkeypatch.setattr(workers, "PIXELS", 300)  # several messages in a piece
    reader = write(tmp_path / "a.parquet")
    ranges = [range(0, 5), range(5, ROWS - 60), range(ROWS - 30, ROWS)]  # a gap: a shard is done
    found = [*read(reader, ranges, number)]
    for rows, (images, skipped) in zip(ranges, found, strict=True):
        findings = Findings()
        expected = [*decoded(reader.items(np.array(rows)), TARGET, findings)]
        assert [image.label for image in images] == [item.label for item, _ in expected]
        for image, (item, pixels) in zip(images, expected, strict=True):
            assert (image.name, image.caption) == (item.name, item.caption)
            assert np.array_equal(image.pixels, pixels)
        assert skipped == findings.skipped and len(skipped) == len(rows) - len(images)


def test_a_source_that_ends_early_is_reported(tmp_path):
    reader = write(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=rf"expected 128 images from number {ROWS - 28}.*got 28"):
        [*read(reader, [range(ROWS - 28, ROWS + 100)], 0)]


def test_an_error_of_the_source_reaches_the_first_process(tmp_path):
    reader = write(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"a\.parquet: expected a Parquet file"):
        [*read(reader, [range(ROWS)], 1)]


class Fatal:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_worker_that_ends_is_reported():
    with pytest.raises(UserError, match=r"one ended with status 3.*fewer of them"):
        with Decoders(Fatal(), TARGET, [range(4)], 1) as decoders:
            [*decoders.images(range(4), Findings())]


def test_workers_end_with_the_context(tmp_path):
    reader = write(tmp_path / "a.parquet", 8)  # more than a pipe holds
    with Decoders(reader.items, TARGET, [range(ROWS)], 2) as decoders:
        next(decoders.images(range(ROWS), Findings()))
        processes = [worker._process for worker in decoders._workers]
        assert all(process.is_alive() for process in processes)
    assert not any(process.is_alive() for process in processes)
