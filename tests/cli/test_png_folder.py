"""Names of PNGs: from the source alone, and never one for two."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq.cli import png_folder
from rotvq.cli.png_folder import PngFolder, check_folder, png_name
from rotvq.errors import UserError

GRAY = np.zeros((1, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("IMG_0001.png", "IMG_0001.png"),
        ("IMG_0001.jpg", "IMG_0001.jpg.png"),
        ("IMG_0001.jpeg", "IMG_0001.jpeg.png"),
        ("IMG_0001.PNG", "IMG_0001.PNG.png"),
        ("IMG_0001.jpg.png", "IMG_0001.jpg.png.png"),
        ("IMG_0001.png.png", "IMG_0001.png.png.png"),
        ("v1.2.png", "v1.2.png"),
        ("a/b.tif", "a/b.tif.png"),
        ("shard.tar/000042", "shard.tar/000042.png"),
        ("10:30 \\ \x1b[31m.jpg", "10%3A30 %5C %1B[31m.jpg.png"),
        ("..hidden.jpg", "..hidden.jpg.png"),
    ],
)
def test_the_name_of_a_png(source: str, name: str) -> None:
    assert png_name(source) == Path(name)


def test_two_pictures_never_share_a_name() -> None:
    """Nor where capitals do not count."""
    endings = [*png_folder.SUFFIXES, ".JPG", ".Png"]
    names = ["x" + "".join(two) for two in itertools.product(endings, ["", *endings])]
    assert len({str(png_name(name)) for name in names}) == len(names)
    lower = {name.lower() for name in names}
    assert len({str(png_name(name)).lower() for name in names}) >= len(lower)


@pytest.mark.parametrize("source", ["n" * 251 + ".jpg", "ü" * 126 + ".png", f"{'d' * 300}/a.png"])
def test_long_names_are_truncated_and_remain_different(source: str) -> None:
    others = {png_name(source), png_name("x" + source), png_name(source.replace(".", "_."))}
    assert len(others) == 3
    for path in others:
        assert all(len(part.encode()) <= 255 for part in path.parts) and path.suffix == ".png"


@pytest.mark.parametrize("source", ["../a.png", "/tmp/a.png", "a/../../b.png", "..", "/"])
def test_no_name_points_outside_the_folder(source: str) -> None:
    with pytest.raises(UserError, match="Do not trust this file"):
        png_name(source)


def test_a_picture_that_would_replace_another_is_listed(tmp_path, monkeypatch) -> None:
    pngs = PngFolder(tmp_path / "out")
    pngs.save("a.jpg", GRAY)
    # A file system where capitals do not count finds the first file under the second name.
    monkeypatch.setattr(png_folder, "png_name", lambda source: Path("a.jpg.png"))
    pngs.save("A.jpg", GRAY)
    assert [each.path for each in pngs.skipped] == ["A.jpg"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.jpg.png"]


def test_a_folder_with_the_name_of_a_picture(tmp_path) -> None:
    pngs = PngFolder(tmp_path)
    for name in ("a.jpg.png/b.png", "a.jpg", "c.png", "c.png/d.png"):
        pngs.save(name, GRAY)
    assert [each.path for each in pngs.skipped] == ["a.jpg", "c.png/d.png"]


def test_files_of_an_earlier_command_are_replaced(tmp_path) -> None:
    for value in (0, 9):
        pngs = PngFolder(tmp_path)
        for name in ("a.png", "b.png"):
            pngs.save(name, GRAY + np.uint8(value))
        assert pngs.skipped == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as opened:
            assert np.array_equal(opened, GRAY[0] + 9)


def test_images_without_a_name_are_numbered(tmp_path) -> None:
    pngs = PngFolder(tmp_path)
    for name in ("", "a.png", ""):
        pngs.save(name, GRAY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000001.png", "000002.png", "a.png",
    ]  # fmt: skip


def test_the_output_must_be_a_folder_new_or_empty(tmp_path) -> None:
    with pytest.raises(
        UserError, match=r"got the image file name .*one\.png\. Pass .*one, for example"
    ):
        check_folder(tmp_path / "one.png", overwrite=False)
    (tmp_path / "two.png").mkdir()
    check_folder(tmp_path / "two.png", overwrite=False)
    (tmp_path / "two.png" / "file").touch()
    with pytest.raises(UserError, match=r"expected a new or empty folder; .*two\.png is not empty"):
        check_folder(tmp_path / "two.png", overwrite=False)
    check_folder(tmp_path / "two.png", overwrite=True)
    with pytest.raises(UserError, match=r"expected a folder; .*file is a file"):
        check_folder(tmp_path / "two.png" / "file", overwrite=True)
