"""The image formats that are opened, and what is checked before decoding."""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# An allow-list: fewer parsers handle untrusted bytes, and none of these runs another program, as
# the decoders of EPS (Ghostscript) and WMF do. TGA has no signature: see `_formats`.
_PLUGINS = (
    "Png", "Jpeg", "Mpo", "WebP", "Bmp", "Gif", "Tiff", "Ppm", "Jpeg2K", "Avif", "Ico", "Pcx",
    "Qoi", "Sgi", "Tga",
)  # fmt: skip
_ALLOWED = {
    "PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO",
    "PCX", "QOI", "SGI", "TGA", "HEIF",
}  # fmt: skip

LARGEST = 160_000_000
"""Maximum number of pixels in an image; Pillow takes 4 bytes for each in every copy."""

_SCANNED = 2**30
"""Maximum pixels times scans of a JPEG: even an empty scan visits every pixel."""
_USUAL_SCANS = 20
_LARGEST_JPEG = 2**29
"""Maximum bytes of a JPEG."""


class Unreadable(ValueError):
    """An image that is skipped: a reason shared by many, and the detail of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


def _register() -> None:
    for name in _PLUGINS:
        with suppress(ImportError):  # not in this version of Pillow
            import_module(f"PIL.{name}ImagePlugin")
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()


_register()
# Without MPO, which the JPEG decoder recognizes.
FORMATS = tuple(name for name in Image.OPEN if name in _ALLOWED - {"TGA", "MPO"})
"""Pillow's names of the formats."""

SUFFIXES = frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in _ALLOWED)
"""Their file suffixes, in lower case, with a dot."""

_TGA = frozenset(suffix for suffix, name in Image.EXTENSION.items() if name == "TGA")
_HEIC = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})


def why_not(suffix: str) -> str | None:
    """Why files with this suffix are not opened; None if they are."""
    suffix = suffix.lower()
    if suffix in SUFFIXES:
        return None
    if suffix in _HEIC:
        return "HEIC image, which requires: pip install pillow-heif"
    return "not an image file"


def open_image(source: bytes | Path, wanted: tuple[int, int] | None = None) -> Image.Image:
    """Read an image's header; its pixels are decoded on first use.

    Args:
        source: an encoded image or its file.
        wanted: the height and width needed. A JPEG at least four times as large is decoded at
            1/2, 1/4 or 1/8 of its size, but never below twice the size needed.

    Raises:
        Unreadable: the image is empty, of an unknown format, or too expensive to decode.
        OSError: the file cannot be read, or its header is damaged.
    """
    if isinstance(source, Path):
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
            raise Unreadable("not a regular file")
    if not (status.st_size if isinstance(source, Path) else len(source)):
        raise Unreadable("empty file")
    try:
        image = Image.open(
            BytesIO(source) if isinstance(source, bytes) else source, formats=_formats(source)
        )
    except UnidentifiedImageError:
        raise Unreadable("not an image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unreadable("too large", f"more than {LARGEST // 10**6} megapixels") from None
    pixels = image.width * image.height
    if wanted is not None:  # EXIF may rotate it, so both sides must suffice for the longer one
        image.draft(None, (2 * max(wanted), 2 * max(wanted)))
    try:
        _check_size(image)
        if image.format in ("JPEG", "MPO"):
            _check_scans(source, pixels)
    except Unreadable:
        image.close()
        raise
    return image


def has_more_frames(image: Image.Image) -> bool:
    """Whether it has more frames or pages; those of an MPO are previews and depth maps."""
    if image.format == "MPO":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame of a GIF is damaged
        return True


def _formats(source: bytes | Path) -> tuple[str, ...]:
    # Pillow accepts almost any bytes as TGA: require the suffix or the footer.
    if isinstance(source, Path):
        is_tga = source.suffix.lower() in _TGA
    else:
        is_tga = source.endswith(b"TRUEVISION-XFILE.\0")
    return ("TGA",) if is_tga else FORMATS


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > LARGEST:
        raise Unreadable(
            "too large",
            f"{image.height}x{image.width}, more than {LARGEST // 10**6} megapixels",
        )


def _check_scans(source: bytes | Path, pixels: int) -> None:
    if isinstance(source, Path):
        if (size := source.stat().st_size) > _LARGEST_JPEG:
            raise Unreadable("too large", f"{size:,} bytes")
        source = source.read_bytes()
    most = max(_USUAL_SCANS, _SCANNED // pixels)
    # Counting bytes is quick, but includes thumbnails and what follows the image.
    if source.count(b"\xff\xda") > most and (scans := count_scans(source)) > most:
        raise Unreadable("too many scans", f"{scans:,}, more than {most:,}")


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # markers with a length, and the end marker


def count_scans(jpeg: bytes) -> int:
    """The number of scans of a JPEG, without what follows its end, such as a video."""
    scans, position = 0, 2
    while found := _MARKER.search(jpeg, position):
        marker = jpeg[found.start() + 1]
        if marker == 0xD9:
            break
        scans += marker == 0xDA
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2])
    return scans
