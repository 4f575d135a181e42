"""Pictures that are opened, and what is refused in words for everybody."""

import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing.image_formats import FORMATS
from rotvq.errors import UserError
from rotvq.serving.pictures import ACCEPTED, SIDE, photograph, photographs, png, read


def picture(height, width, kind="PNG", mode="RGB"):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    content = BytesIO()
    Image.fromarray(noise).convert(mode).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize(
    "mode, kind",
    [("L", "PNG"), ("RGBA", "PNG"), ("RGB", "JPEG"), ("P", "GIF"), ("RGB", "TIFF"), ("RGB", "QOI"),
     ("RGB", "PPM"), ("RGB", "JPEG2000")],
)  # fmt: skip
def test_image_formats_and_modes(mode, kind):
    if kind not in FORMATS:
        pytest.skip("not in this version of Pillow")
    assert read(picture(16, 12, kind, mode), 3).shape == (3, 16, 12)


def test_pixels_come_back_from_their_png():
    content = picture(9, 7)
    pixels = read(content, 3)
    assert np.array_equal(read(png(pixels), 3), pixels)
    assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(Image.open(BytesIO(content))))
    assert read(content, 1).shape == (1, 9, 7)


@pytest.mark.parametrize(
    "size, reduced", [((600, 300), (SIDE, 128)), ((10, 900), (4, SIDE)), ((4000, 8), (SIDE, 4))]
)
def test_large_images_are_reduced(size, reduced):
    assert read(picture(*size), 3).shape[1:] == reduced


@pytest.mark.parametrize(
    "content", [b"", b"hello", picture(16, 16)[:60], picture(64, 64, "JPEG")[:500], b"GIF89a" * 9]
)
def test_a_file_that_is_not_an_image_is_refused_without_words_for_programmers(content):
    with pytest.raises(UserError, match="expected an image; this file is") as caught:
        read(content, 3)
    assert not set("<>") & set(str(caught.value)) and "object" not in str(caught.value)


def test_a_jpeg_of_empty_scans_is_refused_before_it_is_decoded():
    content = BytesIO()
    Image.new("RGB", (2000, 2000)).save(content, "JPEG", progressive=True)
    jpeg = content.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    bomb = jpeg[:-2] + scan * 6000 + b"\xff\xd9"  # 0.1 MB that take most of a minute
    began = time.monotonic()
    with pytest.raises(UserError, match="too many scans"):
        read(bomb, 3)
    assert time.monotonic() - began < 5


def test_an_image_with_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr("rotvq.serving.pictures.LARGEST", 100)
    with pytest.raises(UserError, match="at most 100 pixels; got 20x10"):
        read(picture(10, 20), 3)


def test_the_dialog_offers_every_format():
    assert {".png", ".jpg", ".webp", ".tif", ".tiff", ".tga", ".qoi"} <= set(ACCEPTED)


def test_photographs():
    if not photographs():
        pytest.skip("scikit-learn is not installed")
    china, flower = (read(photograph(name), 3) for name in photographs())
    assert china.shape == (3, 128, 192) and flower.shape == (3, 128, 128)
    top, bottom = china[:, :20], china[:, -20:]
    assert top[2].mean() > 180 and bottom.mean() < 120, "a sky above dark trees"
    assert flower[0, 40:80, 40:80].mean() > 200 and flower[:, :20, :20].mean() < 60, "orange"


def test_a_photograph_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"there is none named \.\./secret"):
        photograph("../secret")
