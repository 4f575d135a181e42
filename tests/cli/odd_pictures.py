"""A folder of every kind of odd picture that we know, with what should become of each.

The pictures are crops of the photographs that scikit-learn and matplotlib bring. What is expected
is computed from the pixels that were written, never by reading the file.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from sklearn.datasets import load_sample_image

Pixels = NDArray[Any]
HEIGHT, WIDTH = 40, 56
BASE: Pixels = load_sample_image("china.jpg")[100 : 100 + HEIGHT, 200 : 200 + WIDTH]
OTHER: Pixels = load_sample_image("flower.jpg")[200 : 200 + HEIGHT, 300 : 300 + WIDTH]
GRAY: Pixels = np.asarray(Image.fromarray(BASE).convert("L"))
ALPHA: Pixels = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))


class Kind(NamedTuple):
    """One odd file.

    Args:
        path: inside the folder.
        content: its bytes.
        pixels: that should be read, (h, w, 3); None where it is passed over.
        reason: for which it, or a part of it, is passed over.
        tolerance: of the mean error, in levels; lossless kinds have at most one level anywhere.
    """

    path: str
    content: bytes
    pixels: Pixels | None = None
    reason: str | None = None
    tolerance: float = 0.0


def encoded(image: Image.Image | Pixels, format_: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, format_, **options)
    return stream.getvalue()


def color(gray: Pixels) -> Pixels:
    return np.repeat(np.rint(gray).astype(np.uint8)[..., None], 3, 2)


def over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    return np.rint(255 + (pixels.astype(float) - 255) * (alpha[..., None] / 255)).astype(np.uint8)


def png(rows: bytes, bits: int, kind: int, **chunks: bytes) -> bytes:
    """A PNG of that bit depth and color type, which Pillow does not write."""
    stride = len(rows) // HEIGHT
    lines = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(HEIGHT))
    parts = {
        "IHDR": struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, 0),
        **chunks,
        "IDAT": zlib.compress(lines),
        "IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + (name.encode() + content)
        + struct.pack(">I", zlib.crc32(name.encode() + content))
        for name, content in parts.items()
    )


def lossless() -> Iterator[Kind]:
    rgb = Image.fromarray(BASE)
    yield Kind("plain.png", encoded(BASE), BASE)
    yield Kind("plain.bmp", encoded(BASE, "BMP"), BASE)
    yield Kind("plain.dib", encoded(BASE, "DIB"), BASE)
    yield Kind("plain.tif", encoded(BASE, "TIFF"), BASE)
    yield Kind("lzw.tiff", encoded(BASE, "TIFF", compression="tiff_lzw"), BASE)
    yield Kind("deflate.tiff", encoded(BASE, "TIFF", compression="tiff_adobe_deflate"), BASE)
    yield Kind("plain.webp", encoded(BASE, "WEBP", lossless=True), BASE)
    yield Kind("plain.ppm", encoded(BASE, "PPM"), BASE)
    yield Kind("plain.tga", encoded(BASE, "TGA"), BASE)
    yield Kind("packed.tga", encoded(BASE, "TGA", compression="tga_rle"), BASE)
    yield Kind("plain.jp2", encoded(BASE, "JPEG2000", irreversible=False), BASE)
    yield Kind("plain.pcx", encoded(BASE, "PCX"), BASE)
    yield Kind("plain.sgi", encoded(BASE, "SGI"), BASE)
    yield Kind("plain.ico", encoded(rgb.resize((32, 32)), "ICO"), np.asarray(rgb.resize((32, 32))))
    yield Kind("CAPITALS.PNG", encoded(BASE), BASE)
    yield Kind("really_png.jpg", encoded(BASE), BASE)
    yield Kind("really_gif.png", encoded(GRAY, "GIF"), color(GRAY))


def lossy() -> Iterator[Kind]:
    for name, options in {
        "baseline.jpg": {},
        "progressive.jpeg": {"progressive": True},
        "sampled.JPG": {"subsampling": "4:2:0"},
        "full.jpe": {"subsampling": "4:4:4"},
        "short.jfif": {"optimize": True},
        "coarse.jpg": {"quality": 60},
        "really_jpeg.png": {},
    }.items():
        yield Kind(name, encoded(BASE, "JPEG", **{"quality": 95, **options}), BASE, None, 11)
    cmyk = Image.fromarray(BASE).convert("CMYK")
    yield Kind("print.jpg", encoded(cmyk, "JPEG", quality=95), BASE, None, 8)
    yield Kind("gray.jpg", encoded(GRAY, "JPEG", quality=95), color(GRAY), None, 4)
    yield Kind("lossy.webp", encoded(BASE, "WEBP", quality=95), BASE, None, 8)
    yield Kind("lossy.avif", encoded(BASE, "AVIF", quality=90), BASE, None, 8)
    stream = encoded(BASE, "JPEG2000", quality_layers=[3], no_jp2=True)
    yield Kind("lossy.j2k", stream, BASE, None, 8)


def modes() -> Iterator[Kind]:
    bits = GRAY > 127
    rgba = np.dstack([BASE, ALPHA])
    gray16 = np.rint(np.linspace(0, 65535, GRAY.size)).reshape(GRAY.shape).astype(np.uint16)
    palette = Image.fromarray(OTHER).quantize(64)
    known = np.asarray(palette.convert("RGB"))
    index = np.asarray(palette)
    yield Kind("bits.png", encoded(Image.fromarray(GRAY).point(lambda v: 255 * (v > 127), "1")),
               color(bits * 255))  # fmt: skip
    yield Kind("gray.png", encoded(GRAY), color(GRAY))
    yield Kind("gray_alpha.png", encoded(Image.merge("LA", [*map(Image.fromarray, (GRAY, ALPHA))])),
               over_white(color(GRAY), ALPHA))  # fmt: skip
    yield Kind("palette.png", encoded(palette), known)
    seen = np.where((index == 3)[..., None], 255, known)
    yield Kind("palette_clear.png", encoded(palette, transparency=3), seen)
    yield Kind("rgba.png", encoded(rgba), over_white(BASE, ALPHA))
    yield Kind("opaque.png", encoded(np.dstack([BASE, ALPHA * 0 + 255])), BASE)
    yield Kind("rgba.webp", encoded(rgba, "WEBP", lossless=True, exact=True),
               over_white(BASE, ALPHA))  # fmt: skip
    yield Kind("rgba.tif", encoded(rgba, "TIFF"), over_white(BASE, ALPHA))
    keyed = np.where((BASE == BASE[0, 0]).all(2, keepdims=True), 255, BASE)
    yield Kind("keyed.png", encoded(BASE, transparency=tuple(map(int, BASE[0, 0]))), keyed)
    yield Kind("gray16.png", encoded(gray16), color(gray16 / 257))
    yield Kind("gray16.tif", encoded(gray16, "TIFF"), color(gray16 / 257))
    yield Kind("gray16.pgm", encoded(Image.fromarray(gray16), "PPM"), color(gray16 / 257))
    nibbles = (GRAY[:, ::2] >> 4 << 4) | (GRAY[:, 1::2] >> 4)
    yield Kind("gray4.png", png(nibbles.tobytes(), 4, 0), color((GRAY >> 4) * 17))
    rgb16 = BASE.astype(">u2") * 257
    yield Kind("rgb16.png", png(rgb16.tobytes(), 16, 2), BASE)
    cmyk = Image.fromarray(BASE).convert("CMYK")
    yield Kind("cmyk.tif", encoded(cmyk, "TIFF"), BASE)
    lab = ImageCms.profileToProfile(
        Image.fromarray(BASE),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    yield Kind("lab.tif", encoded(lab, "TIFF"), BASE, None, 4)
    floats = Image.fromarray(GRAY.astype(np.float32))
    yield Kind("floats.tif", encoded(floats, "TIFF"), None, "pixels without a known range")
    whole = Image.fromarray(GRAY.astype(np.int32))
    yield Kind("integers.tif", encoded(whole, "TIFF"), None, "pixels without a known range")


def frames() -> Iterator[Kind]:
    first, more = Image.fromarray(BASE), [Image.fromarray(OTHER)] * 2
    few = Image.fromarray(GRAY)
    together: dict[str, Any] = {"save_all": True, "append_images": more}
    reason = "frames after the first"
    yield Kind("still.gif", encoded(few, "GIF"), color(GRAY))
    yield Kind("moving.gif", encoded(few, "GIF", save_all=True, append_images=[few.rotate(90)]),
               color(GRAY), reason)  # fmt: skip
    yield Kind("moving.png", encoded(first, **together), BASE, reason)
    yield Kind("moving.webp", encoded(first, "WEBP", lossless=True, **together), BASE, reason)
    yield Kind("moving.avif", encoded(first, "AVIF", quality=90, **together), BASE, reason, 8)
    yield Kind("pages.tif", encoded(first, "TIFF", **together), BASE, reason)
    yield Kind("camera.mpo", encoded(first, "MPO", quality=95, **together), BASE, None, 8)


def turned() -> Iterator[Kind]:
    """The eight orientations of EXIF: what the camera stored, and how it should be seen."""
    stored: list[Callable[[Pixels], Pixels]] = [
        lambda x: x,
        lambda x: x[:, ::-1],
        lambda x: x[::-1, ::-1],
        lambda x: x[::-1],
        lambda x: x.transpose(1, 0, 2),
        lambda x: np.rot90(x, 1),
        lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        lambda x: np.rot90(x, -1),
    ]
    for value, store in enumerate(stored, 1):
        exif = Image.Exif()
        exif[0x0112] = value
        content = encoded(np.ascontiguousarray(store(BASE)), exif=exif)
        yield Kind(f"turned/{value}.png", content, BASE)
    broken = b"Exif\0\0II*\0\xff\xff\xff\x7f"
    yield Kind("turned/broken.jpg", encoded(BASE, "JPEG", quality=95, exif=broken), BASE, None, 8)


def profiled(profiles: Any) -> Iterator[Kind]:
    adobe = profiles.adobe_rgb()
    seen = profiles.adobe_in_srgb(BASE)
    yield Kind("profiles/adobe.png", encoded(BASE, icc_profile=adobe), seen, None, 1)
    yield Kind("profiles/adobe.jpg", encoded(BASE, "JPEG", quality=95, icc_profile=adobe),
               seen, None, 9)  # fmt: skip
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield Kind("profiles/srgb.png", encoded(BASE, icc_profile=srgb), BASE)
    gray = profiles.gray_in_srgb(GRAY, 1.8)
    yield Kind("profiles/gray.png", encoded(GRAY, icc_profile=profiles.gray(1.8)),
               color(gray), None, 1)  # fmt: skip
    yield Kind("profiles/broken.png", encoded(BASE, icc_profile=b"none"), BASE,
               "color profile that does not fit, ignored")  # fmt: skip


def damaged() -> Iterator[Kind]:
    jpeg = encoded(BASE, "JPEG", quality=95)
    progressive = encoded(BASE, "JPEG", quality=95, progressive=True)
    unknown, truncated = "not an image of a known format", "damaged image"
    yield Kind("damaged/cut.jpg", jpeg[: len(jpeg) // 2], None, truncated)
    yield Kind("damaged/cut_progressive.jpg", progressive[:-400], None, truncated)
    yield Kind("damaged/cut.png", encoded(BASE)[:-600], None, truncated)
    yield Kind("damaged/cut.webp", encoded(BASE, "WEBP", lossless=True)[:-400], None, truncated)
    yield Kind("damaged/cut.bmp", encoded(BASE, "BMP")[:-400], None, truncated)
    yield Kind("damaged/start.jpg", jpeg[:3], None, unknown)
    yield Kind("damaged/empty.png", b"", None, "empty file")
    yield Kind("damaged/zeros.jpg", bytes(5000), None, unknown)
    yield Kind("damaged/page.jpg", b"<!doctype html><title>Not found</title>", None, unknown)
    yield Kind("damaged/program.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", None,
               unknown)  # fmt: skip
    yield Kind(
        "damaged/pointer.png", b"version https://git-lfs.github.com/spec/v1\n", None, unknown
    )
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 1, 0x10)
    bomb = encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    yield Kind("bombs/scans.jpg", bomb[:-2] + scan * 3000 + b"\xff\xd9", None, "too many scans")
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    yield Kind("bombs/claims.png", png(b"", 8, 2, IHDR=header), None, "too large")
    header = struct.pack(">IIBBBBB", 14_000, 12_000, 8, 2, 0, 0, 0)
    yield Kind("bombs/large.png", png(b"", 8, 2, IHDR=header), None, "too large")
    yield Kind("sizes/one.png", encoded(BASE[:1, :1]), None, "below 4 pixels a side")
    yield Kind("sizes/flat.png", encoded(BASE[:3]), None, "below 4 pixels a side")
    yield Kind("sizes/least.png", encoded(BASE[:4, :4]), BASE[:4, :4])
    thin = np.tile(BASE[:4], (1, 40, 1))
    yield Kind("sizes/thin.png", encoded(thin), thin)


def named() -> Iterator[Kind]:
    for name in (
        "Кот.png", "猫/狗 \U0001f600.png", "blank s.png", " first.png", 'q"uo\'te.png', "-o.png",
        "per%cent%20.png", "tab\tand\nline.png", "esc\x1b]0;title\x07.png", "gnp.\u202eexe.png",
        "a.b.c.png", "back\\slash.png", "ti:me.png", "n" * 251 + ".png", "e\u0301.png", "\xe9.png",
        "deep/" * 40 + "down.png", "[0-9]*?.png", "same.png", "same.jpg.png", "$HOME.png",
    ):  # fmt: skip
        yield Kind(f"names/{name}", encoded(BASE), BASE)
    yield Kind("names/same.jpg", encoded(BASE, "JPEG", quality=95), BASE, None, 8)
    yield Kind(os.fsdecode(b"names/caf\xe9.png"), encoded(BASE), BASE)


def others() -> Iterator[Kind]:
    for name in ("Thumbs.db", "desktop.ini", "labels.csv", "README", "film.mp4", "page.pdf",
                 "drawing.eps", "drawing.svg", "layers.psd", "raw.cr2", "back.png~", "a.png.part",
                 "archive.zip"):  # fmt: skip
        yield Kind(f"others/{name}", b"%!PS-Adobe-3.0 EPSF-3.0\n", None, "not an image file")
    for name in (".DS_Store", "._plain.png", ".hidden.jpg"):
        yield Kind(f"others/{name}", encoded(BASE), None, "hidden")


def build(folder: Path, profiles: Any) -> list[Kind]:
    """Write them all below a new folder; returns them with what links and folders become."""
    made = [lossless(), lossy(), modes(), frames(), turned(), profiled(profiles), damaged()]
    kinds = [kind for some in (*made, named(), others()) for kind in some]
    for kind in kinds:
        path = folder / kind.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind.content)
    return [*kinds, *_folders(folder)]


def _folders(folder: Path) -> Iterator[Kind]:
    elsewhere = folder.with_name("elsewhere")
    for place in (elsewhere / "one", elsewhere / "two", folder / "links", folder / "closed"):
        place.mkdir(parents=True)
        (place / "x.png").write_bytes(encoded(OTHER))
    links = folder / "links"
    for name, to in {
        "file.png": elsewhere / "one/x.png",
        "folder": elsewhere,
        "again": elsewhere / "one",
        "up": folder,
        "self": links / "self",
        "broken.png": links / "nowhere.png",
    }.items():
        (links / name).symlink_to(to)
    os.mkfifo(links / "pipe.png")
    (elsewhere / "two" / "back").symlink_to(links)
    yield Kind("links/x.png", b"", OTHER)
    yield Kind("links/file.png", b"", OTHER)
    yield Kind("links/again/x.png", b"", OTHER)
    yield Kind("links/folder/two/x.png", b"", OTHER)
    read = "link to a folder that was already read"
    yield Kind("links/folder/one", b"", None, read)
    yield Kind("links/folder/two/back", b"", None, read)
    yield Kind("links/up", b"", None, read)
    yield Kind("links/self", b"", None, "broken link")
    yield Kind("links/broken.png", b"", None, "broken link")
    yield Kind("links/pipe.png", b"", None, "not a regular file")
    yield Kind("closed", b"", None, "no permission")
    for name in ("runs/mine/reconstructions", ".cache", "empty"):
        (folder / name).mkdir(parents=True)
    (folder / "runs/mine/config.yaml").write_text("data: {}\n")
    (folder / "runs/mine/reconstructions/epoch_0001.png").write_bytes(encoded(OTHER))
    (folder / ".cache/x.png").write_bytes(encoded(OTHER))
    yield Kind("runs/mine", b"", None, "run folder")
    yield Kind(".cache", b"", None, "hidden")
