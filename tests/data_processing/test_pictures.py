"""Pictures by path: their names, their order, and words that are something else."""

import pytest
from PIL import Image

from rotvq.data_processing import pictures
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.skipped import Skipped
from rotvq.data_processing.sources import open_source
from rotvq.errors import UserError


def draw(path, size=(5, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 7).save(path)
    return path


def test_names_are_paths_in_the_folder(tmp_path):
    draw(tmp_path / "b.png")
    draw(tmp_path / "a/c.jpg")
    draw(tmp_path / ".hidden/d.png")
    (tmp_path / "notes.txt").write_text("")
    found = pictures.find([str(tmp_path)], [])
    assert found == [("a/c.jpg", tmp_path / "a/c.jpg"), ("b.png", tmp_path / "b.png")]


def test_files_and_several_folders(tmp_path):
    one, two = draw(tmp_path / "a/1.png"), draw(tmp_path / "b/1.png")
    words = [str(tmp_path / "a"), str(tmp_path / "b"), str(draw(tmp_path / "c.webp"))]
    assert [name for name, _ in pictures.find(words, [])] == ["a/1.png", "b/1.png", "c.webp"]
    with pytest.raises(UserError, match=r"1\.png: expected images with different names; got 2"):
        pictures.find([str(one), str(two)], [])


def test_words_that_name_a_data_source(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train-0.parquet").write_bytes(b"")
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"")
    assert not pictures.is_source(str(draw(tmp_path / "p" / "a.png").parent))
    for word in ("photos", "cifar10", "owner/name", str(archive), str(tmp_path / "d")):
        assert pictures.is_source(word)


def test_paths_without_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected images; found none"):
        pictures.find([str(tmp_path)], [])
    with pytest.raises(UserError, match="there is no such file"):
        pictures.find([str(tmp_path / "a.png")], [])
    note = tmp_path / "a.txt"
    note.write_text("")
    with pytest.raises(UserError, match=r"found none; 2 skipped: not an image file, first a\.txt"):
        pictures.find([str(note), str(note)], [])


def test_several_words_are_read_in_order(tmp_path):
    words = [str(draw(tmp_path / name)) for name in ("b.png", "a.png")]
    reader = pictures.open_pictures(words, None, Target())
    assert [item.name for item in reader] == ["b.png", "a.png"]
    (tmp_path / "c.txt").touch()
    reader = pictures.open_pictures([str(tmp_path)], None, Target())
    assert [item.name for item in reader] == ["a.png", "b.png"]
    assert reader.skipped == (Skipped("c.txt", "not an image file"),)


@pytest.mark.parametrize("separate", [True, False])
def test_the_split_of_a_folder_is_the_one_that_training_uses(tmp_path, separate):
    names = [f"{i:02}.png" for i in range(20)]
    for i, name in enumerate(names):
        part = ("test" if i < 3 else "train") if separate else ""
        draw(tmp_path / part / name)
    own = {
        split: [item.name for item in pictures.open_pictures([str(tmp_path)], split, Target())]
        for split in ("train", "test", "all")
    }
    source = open_source(str(tmp_path), Target())
    assert own["test"] == [item.name for item in source.reader("test")]
    assert len(own["test"]) == (3 if separate else 2)
    assert sorted(own["train"] + own["test"]) == sorted(own["all"])
    assert not {*own["train"]} & {*own["test"]}


def test_a_split_of_image_files_or_of_several_folders_is_refused(tmp_path):
    one, two = draw(tmp_path / "a/1.png"), draw(tmp_path / "b/1.png")
    for words in ([str(one)], [str(one.parent), str(two.parent)]):
        with pytest.raises(UserError, match="--split train: expected one folder of images, or"):
            pictures.open_pictures(words, "train", Target())
        assert len([*pictures.open_pictures(words, "all", Target())]) == len(words)
