"""Labels from subfolders: one class each, if every image is directly in one."""

import pickle

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing.pictures import open_pictures
from rotvq.data_processing.reader import SPLITS
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.sources import load, open_source


@pytest.fixture
def make(tmp_path):
    def made(*names):
        for i, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / name)
        return str(tmp_path)

    return made


def labels(reader, rows=None):
    """The labels by name, as another process reads them."""
    items = pickle.loads(pickle.dumps(reader.items))
    return {item.name: item.label for item in items(rows)}


def test_both_splits_number_the_classes_alike(make):
    folder = make(
        "train/dog/1.png", "train/cat/2.png", "train/cat/3.png", "test/ant/4.png", "test/dog/5.png"
    )
    source = open_source(folder, Target())
    train = source.reader("train")
    assert labels(train) == {"train/cat/2.png": 1, "train/cat/3.png": 1, "train/dog/1.png": 2}
    assert labels(train, np.array([0, 2])) == {"train/cat/2.png": 1, "train/dog/1.png": 2}
    assert labels(source.reader("test")) == {"test/ant/4.png": 0, "test/dog/5.png": 2}
    assert train.notes == ("3 classes, one for each subfolder: ant, cat, dog",)
    data = load(folder)
    assert data.train.labels.tolist() == [1, 1, 2] and data.test.labels.tolist() == [0, 2]
    assert data.notes == train.notes and data.classes == ("ant", "cat", "dog")
    for split, reader in (("train", train), ("test", source.reader("test"))):
        assert labels(open_pictures([folder], split, Target())) == labels(reader)


@pytest.mark.parametrize("beside", [(), ("README.md",), (".cache/x.png",)])
def test_a_training_split_alone_has_the_labels_of_its_subfolders(make, tmp_path, beside):
    folder = make(*(f"train/{name}/{i}.png" for name in "ab" for i in range(10)))
    for name in beside:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    data = load(folder)
    assert data.classes == ("a", "b")
    assert sorted([*data.train.labels, *data.test.labels]) == [0] * 10 + [1] * 10
    read = labels(open_pictures([folder], None, Target()))
    assert read == {f"train/{name}/{i}.png": "ab".index(name) for name in "ab" for i in range(10)}


def test_a_class_may_be_called_train(make):
    data = load(make(*(f"{name}/{i}.png" for name in ("train", "ship") for i in range(10))))
    assert len(data.train.images) + len(data.test.images) == 20


def test_validation_images_beside_a_test_split_have_labels_too(make):
    folder = make(*(f"{split}/{c}/{c}.png" for split in ("train", "val", "test") for c in "ab"))
    read = labels(open_pictures([folder], None, Target()))
    assert read == {
        f"{s}/{c}/{c}.png": "ab".index(c) for s in ("train", "val", "test") for c in "ab"
    }


def test_encoded_images_have_the_labels_that_training_sees(make):
    folder = make(*(f"{name}/{i}.png" for name in "ab" for i in range(10)))
    read = labels(open_pictures([folder], None, Target()))
    assert read == {f"{name}/{i}.png": "ab".index(name) for name in "ab" for i in range(10)}
    data = load(folder)
    assert sorted([*data.train.labels, *data.test.labels]) == [0] * 10 + [1] * 10
    source = open_source(folder, Target())
    assert labels(source.reader("test")).items() <= read.items()


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.png", "b/2.png", "3.png"),
        ("a/1.png", "b/c/2.png", "b/3.png"),
        ("a/1.png", "a/2.png"),
        ("train/1.png", "test/2.png"),
        ("train/a/1.png", "test/a/2.png"),
    ],
)
def test_other_folders_have_no_labels(make, names):
    folder = make(*names)
    for reader in (
        open_pictures([folder], None, Target()),
        open_source(folder, Target()).reader("all"),
    ):
        assert {*labels(reader).values()} == {None} and reader.notes == ()


def test_hidden_and_empty_subfolders_are_no_classes(make, tmp_path):
    folder = make("b/1.png", "c/2.png", ".a/3.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "a" / "._1.png").touch()
    (tmp_path / "a" / "folder.png").mkdir()
    (tmp_path / "a" / "link.png").symlink_to("nowhere")
    assert labels(open_pictures([folder], None, Target())) == {"b/1.png": 0, "c/2.png": 1}


def test_several_folders_have_no_labels(make, tmp_path):
    make("a/1.png", "b/2.png")
    reader = open_pictures([str(tmp_path / "a"), str(tmp_path / "b")], None, Target())
    assert labels(reader) == {"a/1.png": None, "b/2.png": None}


def test_a_class_whose_name_is_not_utf8(make):
    folder = make("a/1.png", "b\udce9/2.png")
    assert labels(open_pictures([folder], None, Target())) == {"a/1.png": 0, "b%E9/2.png": 1}


def test_names_that_are_not_utf8_are_written_alike_in_every_split(make):
    folder = make("train/a/1.png", "train/b/caf\udce9.png", "test/a/2.png", "test/b\udce9/3.png")
    names = {split: [*labels(open_pictures([folder], split, Target()))] for split in SPLITS}
    assert names["train"] == ["train/a/1.png", "train/b/caf%E9.png"]
    assert names["test"] == ["test/a/2.png", "test/b%E9/3.png"]
    assert sorted(names["all"]) == sorted(names["train"] + names["test"])


def test_both_splits_read_together_have_the_labels_of_each(make):
    folder = make("train/dog/1.png", "train/cat/2.png", "val/ant/3.png", "val/dog/4.png")
    wanted = {"train/cat/2.png": 1, "train/dog/1.png": 2, "val/ant/3.png": 0, "val/dog/4.png": 2}
    for split in (None, "all"):
        reader = open_pictures([folder], split, Target())
        assert labels(reader) == wanted and reader.classes == ("ant", "cat", "dog")


def test_an_image_outside_of_both_splits_has_no_class(make):
    folder = make("train/dog/1.png", "train/cat/2.png", "test/dog/3.png", "dog/4.png")
    assert set(labels(open_pictures([folder], None, Target())).values()) == {None}
