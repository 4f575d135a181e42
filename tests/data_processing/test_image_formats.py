"""What is opened, and what is answered before anything is decoded."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing import image_formats
from rotvq.data_processing.image_formats import (
    SUFFIXES,
    Unreadable,
    count_scans,
    open_image,
    why_not,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def encode(format_: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(stream, format_, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png_of(width: int, height: int) -> bytes:
    """A header that claims a size, and hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def scans(content: bytes, times: int) -> bytes:
    """A progressive JPEG with empty scans before its end: each refines nothing."""
    empty = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 1, 0x10)
    return content[:-2] + empty * times + b"\xff\xd9"


@pytest.mark.parametrize(
    "suffix",
    ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .jp2 .tga .avif "
    ".ico .mpo".split(),
)
def test_suffixes_that_are_opened(suffix: str) -> None:
    assert suffix in SUFFIXES and why_not(suffix) is None and why_not(suffix.upper()) is None


@pytest.mark.parametrize("suffix", ["", ".db", ".txt", ".eps", ".ps", ".pdf", ".wmf", ".mp4"])
def test_suffixes_that_are_not_opened(suffix: str) -> None:
    assert why_not(suffix) == "not an image file"


def test_heic_names_what_it_needs() -> None:
    if ".heic" not in SUFFIXES:
        assert why_not(".HEIC") == "HEIC image, which requires: pip install pillow-heif"


@pytest.mark.parametrize("format_", ["EPS", "PDF", "XBM", "ICNS"])
def test_no_other_decoder_sees_untrusted_bytes(format_: str, tmp_path: Path) -> None:
    image = Image.new("1" if format_ == "XBM" else "RGB", (16, 16))
    path = tmp_path / "a.png"
    path.write_bytes(encode(format_, image))
    for source in (path, path.read_bytes()):
        with pytest.raises(Unreadable, match="not an image of a known format"):
            open_image(source)


def test_tga_has_no_signature_and_needs_its_suffix_or_footer(tmp_path: Path) -> None:
    content = encode("TGA")
    without_footer = content.removesuffix(content[-26:])
    (tmp_path / "a.tga").write_bytes(without_footer)
    for source in (content, tmp_path / "a.tga"):
        with open_image(source) as image:
            assert np.array_equal(np.asarray(image), PIXELS)
    with pytest.raises(Unreadable, match="not an image of a known format"):
        open_image(without_footer)


@pytest.mark.parametrize(("width", "height"), [(16_001, 10_000), (20_000, 20_000), (2**30, 2)])
def test_too_many_pixels_are_answered_from_the_header(width: int, height: int) -> None:
    with pytest.raises(Unreadable, match=r"too large: .*more than 160 megapixels"):
        open_image(png_of(width, height))
    open_image(png_of(10_000, 8_900)).close()


def test_empty_scans_are_counted_before_they_are_decoded(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).resize((4000, 3000))
    content = encode("JPEG", image, progressive=True, quality=30)
    assert count_scans(content) == 10
    bomb = scans(content, 5000)
    assert count_scans(bomb) == 5010
    (tmp_path / "a.jpg").write_bytes(bomb)
    since = time.perf_counter()
    for source in (bomb, tmp_path / "a.jpg"):
        with pytest.raises(Unreadable, match="too many scans: 5,010, more than 89"):
            open_image(source)
    assert time.perf_counter() - since < 2


def test_bytes_after_a_jpeg_are_not_counted_as_scans() -> None:
    """Phones append videos, and cameras put thumbnails into the header."""
    video = b"\xff\xda" * 10**6
    thumbnail = b"Exif\0\0" + b"\xff\xda" * 1000
    content = encode("JPEG", Image.new("RGB", (1000, 1000)), exif=thumbnail) + video
    assert count_scans(content) == 1
    open_image(content).close()


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_endless_files_are_not_opened(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    with pytest.raises(Unreadable, match="not a regular file"):
        open_image(path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for source in (b"", tmp_path / "a.png"):
        with pytest.raises(Unreadable, match="empty file"):
            open_image(source)


@pytest.mark.parametrize(("wanted", "decoded"), [(None, 800), ((50, 50), 100), ((101, 20), 400)])
def test_a_large_jpeg_is_decoded_at_no_less_than_twice_what_is_wanted(
    wanted: tuple[int, int] | None, decoded: int
) -> None:
    content = encode("JPEG", Image.new("RGB", (1200, 800)))
    with open_image(content, wanted) as image:
        assert image.height == decoded


def test_only_pixels_that_are_decoded_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_formats, "LARGEST", 50_000)
    content = encode("JPEG", Image.new("RGB", (300, 300)))
    open_image(content, (20, 20)).close()
    with pytest.raises(Unreadable, match="too large: 300x300"):
        open_image(content)


def test_formats_are_those_of_the_installed_pillow() -> None:
    assert {"PNG", "JPEG", "WEBP", "GIF", "TIFF"} <= set(image_formats.FORMATS) <= set(Image.OPEN)
