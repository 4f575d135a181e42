from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing.folder import open_folder
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.skipped import Skipped
from rotvq.errors import UserError


def _save(path: Path, value: int = 0, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), value).save(path)


def _values(images: np.ndarray) -> list[int]:
    return [int(value) for value in images[:, 0, 0, 0]]


def test_a_tenth_is_held_out_and_nothing_is_lost_or_shared(tmp_path: Path) -> None:
    for i in range(40):
        _save(tmp_path / f"class {i % 3}" / f"{i}.png", i)
    data = open_folder(tmp_path).load(Target())
    train, test = _values(data.train.images), _values(data.test.images)
    assert len(test) == 4 and sorted(train + test) == list(range(40))
    assert data.name == tmp_path.name and data.train.labels.tolist() == [i % 3 for i in train]
    assert "no test split found: 10 % of the images are held out" in data.notes


def test_the_split_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        for i in range(30):
            _save(tmp_path / parent / "x" / f"{i}.png", i)
    one, two = (open_folder(tmp_path / parent / "x").load(Target()) for parent in ("a", "b"))
    assert one.test.fingerprint() == two.test.fingerprint()


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_subfolders_are_the_splits(tmp_path: Path, test: str) -> None:
    for i in range(3):
        _save(tmp_path / "train" / "deep" / f"{i}.PNG", i)
    _save(tmp_path / test / "x.bmp", 9)
    _save(tmp_path / "elsewhere.png", 77)
    data = open_folder(tmp_path).load(Target())
    assert _values(data.train.images) == [0, 1, 2] and _values(data.test.images) == [9]
    assert data.notes == ()


def test_the_test_folder_takes_precedence_over_validation(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val", "test")):
        _save(tmp_path / split / "x.png", i)
    assert _values(open_folder(tmp_path).load(Target()).test.images) == [2]


def test_hidden_and_other_files_are_skipped(tmp_path: Path) -> None:
    for i in range(2):
        _save(tmp_path / f"{i}.png", i)
    (tmp_path / "._0.png").write_bytes(b"resource fork")
    _save(tmp_path / ".cache" / "x.png", 99)
    (tmp_path / "labels.csv").write_text("0")
    data = open_folder(tmp_path).load(Target())
    assert sorted(_values(data.train.images) + _values(data.test.images)) == [0, 1]
    assert data.skipped == (
        Skipped("._0.png", "hidden"),
        Skipped(".cache", "hidden"),
        Skipped("labels.csv", "not an image file"),
    )


def test_damaged_files_are_named_in_the_notes(tmp_path: Path) -> None:
    for i in range(3):
        _save(tmp_path / "train" / f"{i}.png", i)
        _save(tmp_path / "test" / f"{i}.png", i)
    (tmp_path / "train" / "0.png").write_bytes(b"")
    data = open_folder(tmp_path).load(Target())
    assert _values(data.train.images) == [1, 2]
    assert data.notes == ("1 skipped: empty file, first train/0.png",)
    assert data.skipped == (Skipped("train/0.png", "empty file"),)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected at least two images; got 0"):
        open_folder(tmp_path).load(Target())
    _save(tmp_path / "one.png")
    with pytest.raises(UserError, match="expected at least two images; got 1"):
        open_folder(tmp_path).load(Target())


def test_a_folder_of_damaged_files_is_refused(tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(
        UserError, match="expected readable training images; found none; 3 skipped: not an image"
    ):
        open_folder(tmp_path).load(Target())
