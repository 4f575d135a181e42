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
    assert len(data.classes) == 10 and data.classes[3] == "cat"


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_gives_what_its_folder_gives(batches: Path, tmp_path: Path, mode: str) -> None:
    data = open_archive(_pack(batches, tmp_path / "x.tar.gz", mode)).load(Target())
    folder = open_batches(batches).load(Target())
    assert data.train.fingerprint() == folder.train.fingerprint()
    assert data.test.fingerprint() == folder.test.fingerprint()
    assert data.notes[0].startswith("the archive's md5 is not the official one")
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
    gray = np.asarray(Image.fromarray(image).convert("L"))
    assert np.array_equal(open_batches(batches).load(Target(None, 1)).test.images[3, 0], gray)
    small = open_batches(batches).load(Target(8)).test.images
    assert small.shape == (6, 3, 8, 8)
    resized = Image.fromarray(image).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(small[3].transpose(1, 2, 0), np.asarray(resized))


def test_a_complete_batch_is_unpickled_only_with_the_official_md5(
    batches: Path, write_official: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_official(np.zeros((10_000, 3072), np.uint8), [0] * 10_000)
    (batches / "data_batch_1").write_bytes(content)
    with monkeypatch.context() as patched:
        patched.setattr(cifar10, "read_batch", lambda content, name: pytest.fail("unpickled"))
        with pytest.raises(UserError, match=r"data_batch_1: expected md5 c99cafc1\w+; got "):
            open_batches(batches).load(Target())
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(cifar10.BATCH_MD5, "data_batch_1", md5)
    assert len(open_batches(batches).load(Target()).train.images) == 10_014


@pytest.mark.parametrize(("n", "message"), [(0, "expected images; got none"), (10_001, "md5")])
def test_a_batch_of_too_many_or_no_rows_is_refused(
    batches: Path, write_official: Write, n: int, message: str
) -> None:
    content = write_official(np.zeros((n, 3072), np.uint8), [0] * n)
    (batches / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match=f"test_batch: .*{message}"):
        open_batches(batches).load(Target())


def test_the_md5s_are_the_published_ones() -> None:
    """Those that torchvision checks its downloads with."""
    assert [*cifar10.BATCH_MD5.values()] == [
        "c99cafc152244af753f735de768cd75f",
        "d4bba439e000b95fd0a9bffe97cbabec",
        "54ebc095f3ab1f0389bbae665268c751",
        "634d18415352ddfa80567beed471001a",
        "482c414d41f54cd18b22e5b47cb7c3cb",
        "40351d587109b95175f43aff81a1287e",
    ]
    assert cifar10.ARCHIVE_MD5 == "c58f30108f718f92721af3b95e74349a"


def test_missing_batches_are_named(batches: Path, tmp_path: Path) -> None:
    (batches / "data_batch_3").unlink()
    (batches / "test_batch").unlink()
    archive = _pack(batches, tmp_path / "x.tar.gz")
    for read, path in ((open_batches, batches), (open_archive, archive)):
        with pytest.raises(UserError, match="data_batch_3, test_batch missing"):
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
    with pytest.raises(UserError, match="got a damaged or truncated archive") as caught:
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
