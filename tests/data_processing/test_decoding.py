import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing import decoding
from rotvq.data_processing.decoding import Encoded, Findings, decode, decode_split, decoded
from rotvq.data_processing.image_formats import Unreadable
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.skipped import Skipped
from rotvq.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)

NATIVE = Target()


def _encode(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_decode_exactly(format_: str) -> None:
    options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    pixels = decode(_encode(Image.fromarray(RGB), format_, **options), Target())
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, RGB.transpose(2, 0, 1))


def test_gray_becomes_color_and_color_gray() -> None:
    gray = RGB[..., 0]
    pixels = decode(_encode(Image.fromarray(gray)), Target())
    assert np.array_equal(pixels, np.stack([gray] * 3))
    assert np.array_equal(decode(_encode(Image.fromarray(gray)), Target(None, 1)), gray[None])
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B, to the nearest integer.
    luma = decode(_encode(Image.fromarray(RGB)), Target(None, 1))[0]
    assert np.abs(luma - RGB @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


def test_transparency_is_composited_over_white() -> None:
    alpha = np.linspace(0, 255, 54).astype(np.uint8).reshape(6, 9, 1)
    pixels = decode(_encode(Image.fromarray(np.concatenate([RGB, alpha], 2))), Target())
    expected = 255 + (RGB.astype(float) - 255) * (alpha / 255)
    assert np.abs(pixels.transpose(1, 2, 0) - expected).max() <= 1.0  # two roundings to 8 bits


def test_a_transparent_palette_color_is_white() -> None:
    image = Image.new("P", (5, 4), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((2, 3), 0)
    pixels = decode(_encode(image, transparency=0), Target())
    assert pixels[:, 3, 2].tolist() == [255, 255, 255]
    assert pixels[:, 0, 0].tolist() == [200, 100, 50]


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 20).astype(np.uint16).reshape(4, 5)
    pixels = decode(_encode(Image.fromarray(values)), Target(None, 1))[0]
    assert np.abs(pixels - values / 257).max() <= 0.5


def test_float_pixels_have_no_range() -> None:
    with pytest.raises(ValueError, match="mode F"):
        decode(_encode(Image.new("F", (5, 5)), "TIFF"), Target())


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    pixels = decode(_encode(Image.fromarray(RGB), exif=exif), Target())
    assert np.array_equal(pixels.transpose(1, 2, 0), np.rot90(RGB, -1))


def test_unexpected_formats_are_not_parsed() -> None:
    with pytest.raises(Unreadable, match="not an image of a known format"):
        decode(_encode(Image.fromarray(RGB), "EPS"), Target())


def _split(items: list[Encoded], target: Target = NATIVE) -> tuple[np.ndarray, list[Skipped]]:
    findings = Findings()
    split = decode_split(items, len(items), target, "training", findings)
    return split.images, findings.skipped


@pytest.mark.parametrize("threaded", [False, True])
def test_damaged_images_are_skipped_in_order(
    threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "WORTH_A_THREAD", 0 if threaded else 10**9)
    good = [_encode(Image.new("RGB", (4, 4), (i, 0, 0))) for i in range(40)]
    items = [Encoded(f"image {i}", content, i) for i, content in enumerate(good)]
    items[3] = Encoded("image 3", good[3][:45], 3)
    items[20] = Encoded("image 20", b"not an image", 20)
    items[39] = Encoded("image 39", Unreadable("no image"), 39)
    findings = Findings()
    split = decode_split(items, len(items), Target(), "training", findings)
    kept = [i for i in range(40) if i not in (3, 20, 39)]
    assert split.images[:, 0, 0, 0].tolist() == kept
    assert split.labels is not None and split.labels.tolist() == kept
    assert [(path, reason) for path, reason, _ in findings.skipped] == [
        ("image 3", "damaged image"),
        ("image 20", "not an image of a known format"),
        ("image 39", "no image"),
    ]


def test_few_pixels_are_decoded_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _encode(Image.effect_noise((200, 150), 80).convert("RGB"))
    assert len(content) > decoding.WORTH_A_THREAD
    monkeypatch.setattr(decoding, "IN_FLIGHT", 100_000)  # three of them
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    decode_one, started = decoding._decode, []

    def counted(content: bytes | Path, target: Target) -> object:
        started.append(content)
        return decode_one(content, target)

    monkeypatch.setattr(decoding, "_decode", counted)
    items = [Encoded(str(i), content) for i in range(30)]
    most = 0
    for consumed, _ in enumerate(decoded(items, Target(), Findings())):
        most = max(most, len(started) - consumed)
    assert len(started) == 30 and 2 <= most <= 4  # and the one that is looked at


def test_a_split_without_readable_images_says_why() -> None:
    with pytest.raises(
        UserError, match=r"images; found none; 1 skipped: not .* first a; 1 .* no image"
    ):
        _split([Encoded("a", b"x"), Encoded("b", Unreadable("no image"))])
    with pytest.raises(UserError, match=r"readable training images; found none\.$"):
        _split([])


def test_a_decompression_bomb_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb, fine = _encode(Image.new("L", (50, 50))), _encode(Image.new("L", (4, 4)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    images, skipped = _split([Encoded("bomb", bomb), Encoded("fine", fine)])
    assert images.shape == (1, 3, 4, 4)
    assert skipped == [Skipped("bomb", "too large", "more than 160 megapixels")]


def test_two_shapes_need_a_size() -> None:
    items = [
        Encoded("a", _encode(Image.new("L", (6, 4)))),
        Encoded("b", _encode(Image.new("L", (5, 5)))),
    ]
    with pytest.raises(UserError, match=r"a is 4x6 and b is 5x5. Pass --data\.size"):
        _split(items)
    assert _split(items, Target(4))[0].shape == (2, 3, 4, 4)


def test_one_missing_label_leaves_none() -> None:
    content = _encode(Image.new("L", (4, 4)))
    items = [Encoded("a", content, 1), Encoded("b", content)]
    split = decode_split(items, 2, Target(), "test", Findings())
    assert split.labels is None


def test_files_are_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_encode(Image.fromarray(RGB)))
    images, skipped = _split([Encoded("a", path), Encoded("gone", tmp_path / "gone.png")])
    assert np.array_equal(images[0], RGB.transpose(2, 0, 1))
    assert skipped == [Skipped("gone", "no such file")]


def test_a_damaged_second_frame_does_not_matter() -> None:
    frames = [Image.new("L", (9, 6), value) for value in (50, 200)]
    whole = _encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    findings = Findings()
    items = [Encoded(str(n), whole[:-n]) for n in range(1, 24)]
    assert decode_split(items, len(items), Target(), "test", findings).images.min() == 50
    assert {each.reason for each in findings.skipped} <= {"frames after the first"}


@pytest.mark.parametrize("bits", [None, 12])
def test_the_byte_order_of_a_tiff_does_not_matter(tmp_path, bits):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 60
    found = []
    for order in "<>":
        Image.fromarray(pixels.astype(f"{order}u2")).save(tmp_path / "a.tif")
        found.append(decode(tmp_path / "a.tif", Target(None, 1, bits)))
    assert np.array_equal(*found) and found[0].max() > 0
