"""Decodes images (PNG, JPEG, WebP, …) to uint8 arrays of one shape."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from rotvq.data_processing.color import ProfileError, scaled, stored_bits, to_srgb
from rotvq.data_processing.crops import Store
from rotvq.data_processing.image_formats import Unreadable, has_more_frames, open_image
from rotvq.data_processing.resizing import Pixels, Target, conform, conform_pixels
from rotvq.data_processing.room import room
from rotvq.data_processing.skipped import Skipped, summary
from rotvq.data_processing.splits import ImageSplit
from rotvq.errors import UserError, first_line

WORTH_A_THREAD = 16 * 2**10
"""Bytes of an encoded image from which threads are used: for images of 1 to 2 KiB, two threads took
1.5 to 2 times as long as one (2 cores, Pillow 13)."""
IN_FLIGHT = 2**25
"""Maximum number of pixels decoded ahead; Pillow takes 4 bytes for each in every copy."""


_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


class Encoded(NamedTuple):
    """An image before decoding, with its name in the source, class and caption.

    `content` is its bytes, file or pixels (c, h, w), or the reason why it has none.
    """

    name: str
    content: bytes | Path | Pixels | Unreadable
    label: int | None = None
    caption: str | None = None


def decode(content: bytes | Path, target: Target) -> Pixels:
    """Decode one image to uint8 (c, h, w).

    Applies the EXIF orientation, converts colors to sRGB, composites transparency over white,
    scales gray of more than 8 bits to 8, and takes the first frame of an animation.

    Raises:
        Unreadable: the image is not supported. A damaged file raises whatever Pillow raises.
    """
    return _decode(content, target).pixels


def convert(image: Image.Image, target: Target) -> Pixels:
    """Convert a Pillow image to uint8 (c, h, w), as `decode` does; the image does not change."""
    return _convert(image, target).pixels


class _Decoded(NamedTuple):
    pixels: Pixels
    skipped: tuple[tuple[str, str], ...]
    """Reason and detail of each part left out, such as further frames."""
    used_bits: int | None
    """The bits that the values of a 16-bit image use."""


def _decode(content: bytes | Path, target: Target) -> _Decoded:
    with open_image(content, target.needed) as image:
        return _convert(image, target)


def _convert(image: Image.Image, target: Target) -> _Decoded:
    skipped: list[tuple[str, str]] = []
    used = None
    if has_more_frames(image):
        skipped.append(("frames after the first", ""))
    bits = stored_bits(image)
    profile = image.info.get("icc_profile")
    image.load()
    orientation = None
    with suppress(Exception):  # damaged EXIF, intact pixels
        orientation = _ORIENTATIONS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    plain = image
    if bits == 16 and image.format in ("PNG", "TIFF"):
        if target.bits is None:
            used = int(np.asarray(image).max()).bit_length()  # getextrema knows one byte order
        bits = target.bits or 16
    if bits is not None:
        plain = scaled(image, bits)
    try:
        plain = to_srgb(plain, profile)
    except ProfileError as error:
        skipped.append(("color profile that does not fit, ignored", first_line(error)))
        plain = to_srgb(plain)
    if orientation is not None:
        plain = plain.transpose(orientation)
    return _Decoded(conform(plain, target), tuple(skipped), used)


@dataclass
class Findings:
    """What decoding reports besides pixels: skipped items and notes."""

    skipped: list[Skipped] = field(default_factory=list)
    used_bits: int = 0
    """The bits that the values of all 16-bit images use."""

    @property
    def notes(self) -> tuple[str, ...]:
        """One line per reason for skipping, and one if 16-bit images come out dark."""
        lines = summary(self.skipped)
        fits = next((bits for bits in (8, 10, 12, 14) if self.used_bits <= bits), None)
        if self.used_bits and fits:
            lines.append(
                f"16-bit gray images with no value above {2**fits - 1:,} come out dark: if they "
                f"use {fits} bits, pass --data.bits {fits} (--bits {fits} to encode and "
                "reconstruct)"
            )
        return tuple(lines)


def decode_split(
    items: Iterable[Encoded], count: int, target: Target, split: str, findings: Findings
) -> ImageSplit:
    """Decode at most `count` images to a split of one shape; adds to the findings.

    Raises:
        UserError: no image is readable, or two have different shapes.
    """
    images: Pixels | None = None
    larger = Store()
    labels: list[int | None] = []
    first = ""
    for item, pixels in decoded(items, target, findings):
        if target.keep > 1:
            larger.add(pixels)
            pixels = conform_pixels(pixels, target._replace(keep=1))
        if images is None:
            images, first = room((count, *pixels.shape)), item.name
        if pixels.shape != images.shape[1:]:
            raise UserError(
                f"data: expected images of one shape; {first} is {_shape(images[0])} and "
                f"{item.name} is {_shape(pixels)}. Pass --data.size, or --size "
                "in commands that have it, to resize and crop them."
            )
        images[len(labels)] = pixels
        labels.append(item.label)
    if images is None:
        reasons = "".join(f"; {line}" for line in summary(findings.skipped))
        raise UserError(f"data: expected readable {split} images; found none{reasons}.")
    classes = [label for label in labels if label is not None]
    complete = len(classes) == len(labels)
    is_larger = any(picture.shape[:2] != images.shape[2:] for picture in larger.pictures)
    return ImageSplit(
        images[: len(labels)],
        np.array(classes, np.int64) if complete else None,
        tuple(larger.pictures) if is_larger else None,
    )


def decoded(
    items: Iterable[Encoded], target: Target, findings: Findings
) -> Iterator[tuple[Encoded, Pixels]]:
    """Decode in order, large images in threads; damaged ones are skipped and added to the findings.

    At most a few images and IN_FLIGHT pixels are decoded ahead.
    """
    for item, pixels in attempts(items, target, findings):
        if pixels is not None:
            yield item, pixels


def attempts(
    items: Iterable[Encoded], target: Target, findings: Findings
) -> Iterator[tuple[Encoded, Pixels | None]]:
    """Every item in order, as `decoded`; without pixels if it is damaged."""
    for item, found in _attempts(items, target):
        if isinstance(found, Exception):
            reason, detail = _reason(found)
            findings.skipped.append(Skipped(item.name, reason, detail))
            yield item, None
            continue
        findings.skipped += [Skipped(item.name, *part) for part in found.skipped]
        findings.used_bits = max(findings.used_bits, found.used_bits or 0)
        yield item, found.pixels


def _attempts(
    items: Iterable[Encoded], target: Target
) -> Iterator[tuple[Encoded, _Decoded | Exception]]:
    def attempt(item: Encoded) -> _Decoded | Exception:
        try:
            if isinstance(item.content, Unreadable):
                return item.content
            if isinstance(item.content, np.ndarray):
                return _Decoded(conform_pixels(item.content, target), (), None)
            return _decode(item.content, target)
        # Pillow's plug-ins raise almost anything for damaged files.
        except Exception as error:
            return error

    threads = min(8, os.cpu_count() or 1)
    ahead: deque[tuple[Encoded, int, Future[_Decoded | Exception]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            if not ahead and not _is_large(item):
                yield item, attempt(item)
                continue
            pixels = _pixels(item, target)
            while ahead and (
                len(ahead) >= 2 * threads
                or pixels + sum(waiting for _, waiting, _ in ahead) > IN_FLIGHT
            ):
                first, _, found = ahead.popleft()
                yield first, found.result()
            ahead.append((item, pixels, pool.submit(attempt, item)))
        for item, _, found in ahead:
            yield item, found.result()


def _is_large(item: Encoded) -> bool:
    if isinstance(item.content, bytes):
        return len(item.content) > WORTH_A_THREAD
    try:
        return isinstance(item.content, Path) and item.content.stat().st_size > WORTH_A_THREAD
    except OSError:
        return False


def _pixels(item: Encoded, target: Target) -> int:
    """Pixels to decode; 0 if decoding will fail."""
    if not isinstance(item.content, bytes | Path):
        return 0
    try:
        with open_image(item.content, target.needed) as image:
            return image.width * image.height
    except Exception:
        return 0


def _reason(error: Exception) -> tuple[str, str]:
    """A reason shared by many images, and the detail of this one."""
    if isinstance(error, Unreadable):
        return error.reason, error.detail
    if isinstance(error, PermissionError):
        return "no permission", ""
    if isinstance(error, FileNotFoundError):
        return "no such file", ""
    if isinstance(error, MemoryError):
        return "too large", "does not fit in memory"
    return "damaged image", first_line(error)


def _shape(pixels: Pixels) -> str:
    return f"{pixels.shape[-2]}x{pixels.shape[-1]}"
