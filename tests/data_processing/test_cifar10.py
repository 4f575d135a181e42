import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing import cifar10
from rotvq.data_processing.cifar10 import open_archive, open_batches
from rotvq.data_processing.resizing import Target
from rotvq.errors import UserError

Write = Callable[..., bytes]
Rows = Callable[..., np.ndarray]


def _pack(folder: Path, path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, folder.name)
    return path


def test_batches_are_read_in_order_as_channel_planes(batches: Path, random_rows: Rows) -> None:
    data = open_batches(batches).load(Target())
    rows = np.concatenate([random_rows(i + 1, seed=i) for i in range(5)])
    assert data.train.images.shape == (15, 3, 32, 32)
    for n, c, y, x in [(0, 0, 0, 0), (7, 1, 2, 30), (14, 2, 31, 31)]:
        assert data.train.images[n, c, y, x] == rows[n, 1024 * c + 32 * y + x]
    assert np.array_equal(data.test.images.reshape(6, 3072), random_rows(6, seed=5))
    assert data.train.labels is not None and data.test.labels is not None
    assert data.train.labels.tolist() == [0] + [1] * 2 + [2] * 3 + [3] * 4 + [4] * 5
    assert data.test.labels.tolist() == [5] * 6
    assert data.notes == ("15 of 50,000 training images", "6 of 10,000 test images")


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_gives_what_its_folder_gives(batches: Path, tmp_path: Path, mode: str) -> None:
    data = open_archive(_pack(batches, tmp_path / "x.tar.gz", mode)).load(Target())
    folder = open_batches(batches).load(Target())
    assert data.train.fingerprint() == folder.train.fingerprint()
    assert data.test.fingerprint() == folder.test.fingerprint()
    assert data.notes[0].startswith("the archive is not the official file byte for byte")
    assert data.notes[1:] == folder.notes
    assert not (tmp_path / "cifar-10-batches-py").exists()


def test_the_official_archive_carries_no_note(
    batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _pack(batches, tmp_path / "x.tar.gz")
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    assert open_archive(path).load(Target()).notes == open_batches(batches).load(Target()).notes


def test_size_and_channels_go_through_pillow(batches: Path, random_rows: Rows) -> None:
    image = random_rows(6, seed=5)[3].reshape(3, 32, 32).transpose(1, 2, 0)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    assert np.array_equal(open_batches(batches).load(Target(None, 1)).test.images[3, 0], grey)
    small = open_batches(batches).load(Target(8)).test.images
    assert small.shape == (6, 3, 8, 8)
    resized = Image.fromarray(image).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(small[3].transpose(1, 2, 0), np.asarray(resized))


def test_a_whole_batch_must_have_the_official_checksum(
    batches: Path, write_official: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_official(np.zeros((10_000, 3072), np.uint8), [0] * 10_000)
    (batches / "data_batch_2").write_bytes(content)
    with pytest.raises(UserError, match="data_batch_2 is damaged: expected md5 d4bba439"):
        open_batches(batches).load(Target())
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(cifar10.BATCH_MD5, "data_batch_2", md5)
    assert len(open_batches(batches).load(Target()).train.images) == 10_013


def test_a_batch_of_too_many_or_no_rows_is_refused(batches: Path, write_official: Write) -> None:
    for n in (0, 10_001):
        content = write_official(np.zeros((n, 3072), np.uint8), [0] * n)
        (batches / "test_batch").write_bytes(content)
        with pytest.raises(UserError, match=r"test_batch holds .* images, expected 1 to 10,000"):
            open_batches(batches).load(Target())


def test_missing_batches_are_named(batches: Path, tmp_path: Path) -> None:
    (batches / "data_batch_3").unlink()
    (batches / "test_batch").unlink()
    archive = _pack(batches, tmp_path / "x.tar.gz")
    for read, path in ((open_batches, batches), (open_archive, archive)):
        with pytest.raises(UserError, match="lacks data_batch_3, test_batch"):
            read(path).load(Target())


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_cut_anywhere_is_refused(batches: Path, tmp_path: Path, mode: str) -> None:
    content = _pack(batches, tmp_path / "whole", mode).read_bytes()
    path = tmp_path / "cut.tar.gz"
    # A plain tar ends in zeros that may be missing without loss, hence 0.8.
    for share in (0.0, 0.001, 0.1, 0.5, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(UserError) as caught:
            open_archive(path).load(Target())
        assert "cut.tar.gz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_archive_is_refused(batches: Path, tmp_path: Path) -> None:
    path = _pack(batches, tmp_path / "x.tar.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tar\.gz"):
        open_archive(path).load(Target())


def test_a_file_that_is_no_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(UserError, match="is not a whole tar archive") as caught:
        open_archive(path).load(Target())
    assert "\n" not in str(caught.value)


def test_a_huge_member_is_refused_unread(
    batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "LARGEST_BATCH", 1000)
    for read, path in (
        (open_batches, batches),
        (open_archive, _pack(batches, tmp_path / "x.tar.gz")),
    ):
        with pytest.raises(UserError, match="expected at most 1,000"):
            read(path).load(Target())
