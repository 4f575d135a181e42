"""WebDataset shards: samples, classes, splits, damage."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing import load, shards
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.sources import open_source
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
    with pytest.raises(UserError, match=r"a\.tar: expected a tar file"):
        load(str(tmp_path))


@pytest.mark.parametrize("below", [".", "deep/er"])
def test_a_tar_next_to_images_is_skipped_and_listed(tmp_path, below):
    shard(tmp_path / "backup.tar", samples(range(5)))
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    for value in (50, 51):
        (tmp_path / below / f"{value}.png").write_bytes(png(value))
    data = load(str(tmp_path))
    assert len(data.train.images) == len(data.test.images) == 1
    assert [each[:2] for each in data.skipped] == [("backup.tar", "not an image file")]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    os.mkfifo(tmp_path / "train-0.parquet")
    for word in (tmp_path / "a.tar", tmp_path / "train-0.parquet"):
        with pytest.raises(UserError, match="got another kind of file"):
            load(str(word))
    with pytest.raises(UserError, match="expected at least two images; got 0"):
        load(str(tmp_path))


def test_test_shards_alone_are_refused(tmp_path):
    shard(tmp_path / "test-0.tar", samples([1]))
    with pytest.raises(UserError, match="expected a train split; it has only test"):
        load(str(tmp_path))
    shard(tmp_path / "train-0.tar", {})
    with pytest.raises(UserError, match="expected readable training images; found none"):
        load(str(tmp_path))


def test_two_pictures_with_one_name_are_both_read(tmp_path):
    shard(tmp_path / "train-0.tar", {"a.png": png(1), "a.jpg": png(2), "b.png": png(3)})
    shard(tmp_path / "test-0.tar", samples([20]))
    assert load(str(tmp_path)).train.images[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_a_class_too_large_for_int64_is_dropped(tmp_path):
    shard(tmp_path / "train-0.tar", {"a.png": png(1), "a.cls": b"9" * 5000})
    shard(tmp_path / "test-0.tar", samples([20]))
    assert load(str(tmp_path)).train.labels is None


def test_compressed_shards_are_refused(tmp_path):
    with tarfile.open(tmp_path / "train-0.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(UserError, match="expected a plain tar file; got a compressed one"):
        load(str(tmp_path))


def read(path):
    return [
        (item.name, item.content, item.label) for item in open_source(str(path), Target()).reader()
    ]


@pytest.mark.parametrize(
    "files, found",
    [
        # The field .jpg is the image; .mask.png beside it belongs to it.
        ({"a.jpg": b"1", "a.mask.png": b"2"}, {"a.jpg": b"1"}),
        # Names with more dots, of which that is the only image.
        ({"a.v1.jpg": b"1", "b.v2.JPG": b"2"}, {"a.v1.jpg": b"1", "b.v2.JPG": b"2"}),
        # One key, twice: two samples.
        ({"a.png": b"1", "./a.png": b"2"}, {"a.png": b"2"}),
        ({"./d/a.png": b"1", "d/b.png": b"2"}, {"d/a.png": b"1", "d/b.png": b"2"}),
        ({"/etc/a.png": b"1", "../../b.png": b"2"}, {"etc/a.png": b"1", "b.png": b"2"}),
    ],
)
def test_names_and_fields(tmp_path, files, found):
    items = read(shard(tmp_path / "s.tar", files))
    assert {name.removeprefix("s.tar/"): content for name, content, _ in items} == found
    assert len(items) == len(files) if "./a.png" in files else len(found)


def test_names_that_are_not_utf_8(tmp_path):
    path = shard(tmp_path / "s.tar", {"x.png": png(1)})
    content = path.read_bytes()
    name = b"x.png".ljust(100, b"\0")
    assert content.startswith(name)
    changed = b"\xe9.png".ljust(100, b"\0") + content[100:]
    checksum = b"%06o\0 " % (sum(changed[:148]) + 8 * 32 + sum(changed[156:512]))
    path.write_bytes(changed[:148] + checksum + changed[156:])
    assert [name for name, _, _ in read(path)] == ["s.tar/%E9.png"]


def test_a_sample_without_an_image_is_one_entry_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "LARGEST", 2000)
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, size in (
            ("._a.png", 1),
            ("a.npy", 3),
            ("a.json", 2),
            ("large.png", 2001),
            ("b.cls", 1),
        ):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(b"1" * size))
    assert [(name, content.reason, content.detail) for name, content, _ in read(path)] == [
        ("s.tar/._a.png", "hidden", ""),
        ("s.tar/link.png", "a link instead of an image", ""),
        ("s.tar/a.npy", "no image in the sample", "only .json, .npy"),
        ("s.tar/large.png", "too large", "2,001 bytes, more than 2,000"),
        ("s.tar/b.cls", "no image in the sample", "only .cls"),
    ]


def test_a_label_belongs_to_the_sample_it_stands_in(tmp_path):
    files = {"a.cls": b"1", "b.png": png(2), "b.cls": b" 2\n", "c.png": png(3), "d.cls": b"4"}
    labels = {name: label for name, _, label in read(shard(tmp_path / "s.tar", files))}
    assert labels == {"s.tar/a.cls": 1, "s.tar/b.png": 2, "s.tar/c.png": None, "s.tar/d.cls": 4}


def test_hidden_files_between_those_of_a_sample_do_not_part_it(tmp_path):
    files = {"._a.png": b"m", "a.png": png(1), "._a.cls": b"m", "a.cls": b"7"}
    items = read(shard(tmp_path / "s.tar", files))
    assert [(name, label) for name, _, label in items][-1] == ("s.tar/a.png", 7)
    assert len(items) == 3


def test_a_long_caption_is_truncated(tmp_path):
    path = shard(tmp_path / "s.tar", {"a.png": png(1), "a.txt": b"x" * 2**20})
    (item,) = open_source(str(path), Target()).reader()
    assert item.caption == "x" * 2**16


@pytest.mark.parametrize(
    ("name", "test"),
    [("test-0", True), ("val_0", True), ("val2017", True), ("validation", True),
     ("imagenet1k-validation-00", True), ("data_test.000", True),
     ("valley-0", False), ("testimony", False), ("value", False), ("interval-0", False),
     ("a-latest-0", False)],
)  # fmt: skip
def test_only_whole_words_name_the_test_split(tmp_path, name, test):
    shard(tmp_path / "a-0.tar", {"0.png": png(0)})
    shard(tmp_path / f"{name}.tar", {"1.png": png(1)})
    assert ("test" in shards.open_shards(shards.find_shards(tmp_path), "x").splits) == test


def test_of_several_test_splits_the_first_is_read(tmp_path):
    for number, name in enumerate(("train", "val", "test", "validation")):
        shard(tmp_path / f"{name}-0.tar", {f"{number}.png": png(number)})
    source = shards.open_shards(shards.find_shards(tmp_path), "x")
    names = {split: [item.name for item in read()] for split, read in source.splits.items()}
    assert names == {"train": ["train-0.tar/0.png"], "test": ["test-0.tar/2.png"]}


def test_the_name_of_a_shard_may_not_be_utf8(tmp_path):
    (item,) = open_source(
        str(shard(tmp_path / "caf\udce9.tar", {"0.png": png(0)})), Target()
    ).reader()
    assert item.name == "caf%E9.tar/0.png"
