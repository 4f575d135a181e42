"""Which image files are opened, and what is checked before anything is decoded."""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# An allow-list: fewer parsers meet foreign bytes, and none of these starts another program, as
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
"""Pixels that are decoded of one image; Pillow takes 4 bytes for each, and for each copy."""

_SCANNED = 2**30
"""Pixels times scans of a JPEG: each scan, even an empty one, passes over all pixels."""
_USUAL_SCANS = 20
_LARGEST_JPEG = 2**29
"""Bytes of a JPEG that is searched for scans."""


class Unreadable(ValueError):
    """An image that is passed over: a reason that many share, and what is known of this one."""

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
# Not MPO, which the decoder of JPEG recognizes.
FORMATS = tuple(name for name in Image.OPEN if name in _ALLOWED - {"TGA", "MPO"})
"""Names of the formats, as Pillow calls them."""

SUFFIXES = frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in _ALLOWED)
"""Endings of their files, in lower case, with a dot."""

_TGA = frozenset(suffix for suffix, name in Image.EXTENSION.items() if name == "TGA")
_HEIC = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})


def why_not(suffix: str) -> str | None:
    """Why files of this ending are not opened; None where they are."""
    suffix = suffix.lower()
    if suffix in SUFFIXES:
        return None
    if suffix in _HEIC:
        return "HEIC image, which needs: pip install pillow-heif"
    return "not an image file"


def open_image(source: bytes | Path, wanted: tuple[int, int] | None = None) -> Image.Image:
    """Read an image's header; its pixels are decoded on first use.

    Args:
        source: an encoded image or its file.
        wanted: height and width that suffice. A JPEG at least four times as large is decoded at a
            half, a quarter or an eighth of its size, never below twice what is wanted.

    Raises:
        Unreadable: the image is empty, of no known format, or would take too much to decode.
        OSError: the file cannot be read, or its header is damaged.
    """
    if isinstance(source, Path):
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
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
    if wanted is not None:  # EXIF may turn it, so both sides must suffice for the longer one
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
    """Whether frames or pages follow the first; those of an MPO are previews and depths of it."""
    if image.format == "MPO":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame of a GIF is damaged
        return True


def _formats(source: bytes | Path) -> tuple[str, ...]:
    # Pillow takes almost any bytes for TGA: only where the name or the footer says so.
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
    # The count of bytes is quick; it takes what lies in thumbnails and behind the end for more.
    if source.count(b"\xff\xda") > most and (scans := count_scans(source)) > most:
        raise Unreadable("too many scans", f"{scans:,}, more than {most:,}")


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those with a length, and the end


def count_scans(jpeg: bytes) -> int:
    """Scans of a JPEG up to its end; what follows, such as a video, does not count."""
    scans, position = 0, 2
    while found := _MARKER.search(jpeg, position):
        marker = jpeg[found.start() + 1]
        if marker == 0xD9:
            break
        scans += marker == 0xDA
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2])
    return scans
