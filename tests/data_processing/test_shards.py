"""WebDataset shards: samples, classes, splits, damage."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing import load
from rotvq.errors import UserError


def png(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(content, "PNG")
    return content.getvalue()


def shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(values, labels=True):
    files = {}
    for value in values:
        if labels and value % 2:  # the class may come first
            files[f"{value:03d}.cls"] = str(value % 10).encode()
        files[f"{value:03d}.png"] = png(value)
        if labels and not value % 2:
            files[f"{value:03d}.cls"] = str(value % 10).encode()
        files[f"{value:03d}.json"] = b"{}"
    return files


def test_shards_of_both_splits(tmp_path):
    shard(tmp_path / "train-0.tar", samples(range(5)))
    shard(tmp_path / "train-1.tar", samples(range(5, 9)))
    shard(tmp_path / "test-0.tar", samples([20, 21]))
    data = load(str(tmp_path))
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(9))
    assert data.train.labels.tolist() == list(range(9))
    assert data.test.images[:, 0, 0, 0].tolist() == [20, 21]
    assert data.test.labels.tolist() == [0, 1] and data.notes == ()


def test_a_tenth_is_held_out(tmp_path):
    shard(tmp_path / "a.tar", samples(range(20), labels=False))
    data = load(str(tmp_path))
    assert len(data.train.images) == 18 and len(data.test.images) == 2
    together = np.concatenate([data.train.images, data.test.images])[:, 0, 0, 0]
    assert sorted(together.tolist()) == list(range(20))
    assert data.train.labels is None and "held out" in data.notes[0]


def test_damaged_images_are_counted_and_damaged_shards_named(tmp_path):
    path = shard(tmp_path / "a.tar", samples(range(10)) | {"bad.png": b"no picture"})
    assert any("1 " in note and "skipped" in note for note in load(str(tmp_path)).notes)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"a\.tar is not a whole tar file"):
        load(str(tmp_path))


def test_test_shards_alone_are_refused(tmp_path):
    shard(tmp_path / "test-0.tar", samples([1]))
    with pytest.raises(UserError, match="no train split, only test"):
        load(str(tmp_path))
    shard(tmp_path / "train-0.tar", {})
    with pytest.raises(UserError, match="no readable training images"):
        load(str(tmp_path))


def test_two_pictures_of_one_name_are_two(tmp_path):
    shard(tmp_path / "train-0.tar", {"a.png": png(1), "a.jpg": png(2), "b.png": png(3)})
    shard(tmp_path / "test-0.tar", samples([20]))
    assert load(str(tmp_path)).train.images[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_a_class_that_no_number_holds_is_none(tmp_path):
    shard(tmp_path / "train-0.tar", {"a.png": png(1), "a.cls": b"9" * 5000})
    shard(tmp_path / "test-0.tar", samples([20]))
    assert load(str(tmp_path)).train.labels is None


def test_compressed_shards_are_refused(tmp_path):
    with tarfile.open(tmp_path / "train-0.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(UserError, match="a compressed archive: expected a plain tar file"):
        load(str(tmp_path))
