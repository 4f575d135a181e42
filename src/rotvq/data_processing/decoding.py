"""Encoded images (PNG, JPEG, WebP, …) to uint8 arrays of one shape."""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rotvq.data_processing.crops import Store
from rotvq.data_processing.room import room
from rotvq.data_processing.splits import ImageSplit
from rotvq.errors import UserError, first_line

MINIMUM_SIDE = 4
# Six plug-ins instead of Pillow's forty: faster to probe, and fewer parsers meet foreign bytes.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
# Bytes of an encoded image from which threads are used. For images of 1 to 2 KiB two threads took
# 1.5 to 2 times as long as one (2 cores, Pillow 13): the hand-over costs more than the decoding.
WORTH_A_THREAD = 16 * 2**10

Pixels = NDArray[np.uint8]


class Encoded(NamedTuple):
    """One image not yet decoded: a name for messages, its bytes or its file, its class."""

    name: str
    content: bytes | Path | None
    label: int | None = None


class Target(NamedTuple):
    """What every image becomes: `channels` 1 or 3; `size` is a side or (height, width) or None."""

    size: int | tuple[int, int] | None = None
    channels: int = 3
    keep: int = 1
    """Times the size that larger pictures are kept at, uncropped, to take crops from."""

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width; None where every image keeps its own."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


def parse_size(size: int | str | None) -> tuple[int, int] | None:
    """Height and width of "48x64", 64 or "64".

    Raises UserError for anything else, and for sides below MINIMUM_SIDE.
    """
    if size is None:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", str(size))
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(sides) < MINIMUM_SIDE:
        raise UserError(
            f"data.size: expected a side in pixels or HEIGHTxWIDTH, {MINIMUM_SIDE} or more; got "
            f"{size}."
        )
    return sides


def decode(content: bytes | Path, target: Target) -> Pixels:
    """Decode one image to uint8 (c, h, w).

    EXIF orientation is applied, transparency is composited over white, 16-bit grey is scaled to
    8 bits, an animation gives its first frame.

    Raises whatever Pillow raises for a damaged file, and ValueError for pixels without a range.
    """
    source = BytesIO(content) if isinstance(content, bytes) else content
    with Image.open(source, formats=FORMATS) as opened:
        image = eight_bits(ImageOps.exif_transpose(opened))
    return conform(image, target)


def eight_bits(image: Image.Image) -> Image.Image:
    """Bring an image of any mode to L or RGB."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} pixels have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def conform(image: Image.Image, target: Target) -> Pixels:
    """Resize until one side fits (Lanczos), crop the centre, and lay out as (c, h, w)."""
    if min(image.size) < MINIMUM_SIDE:
        raise ValueError(f"{image.height}x{image.width} is below {MINIMUM_SIDE} pixels a side")
    if target.sides is not None:
        height, width = target.sides
        if target.keep == 1:
            image = _cropped(image, height, width)
        else:
            image = _covering(image, height, width, target.keep)
    pixels = np.asarray(image.convert("L" if target.channels == 1 else "RGB"))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _conformed(pixels: Pixels, target: Target) -> Pixels:
    """Pixels (c, h, w) as `conform` gives them; those that fit already as they are."""
    if pixels.shape[0] == target.channels and target.sides in (None, pixels.shape[1:]):
        return pixels
    grey = len(pixels) == 1
    return conform(Image.fromarray(pixels[0] if grey else pixels.transpose(1, 2, 0)), target)


def _cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    # In one step, so that a long thin image never grows; the offset is whole output pixels, so
    # that an image of which one side fits already is cropped and not resampled.
    wanted = (width, height)
    scale = min(side / new for side, new in zip(image.size, wanted, strict=True))
    pairs = [*zip(image.size, wanted, strict=True)]
    left, above = (int((side / scale - new) / 2) * scale for side, new in pairs)
    right, below = min(left + width * scale, image.width), min(above + height * scale, image.height)
    return image.resize(wanted, Image.Resampling.LANCZOS, (left, above, right, below))


def _covering(image: Image.Image, height: int, width: int, keep: int) -> Image.Image:
    """The whole image, reduced until one side is `keep` times the size, enlarged if too small."""
    fit = min(image.height / height, image.width / width)
    scale = min(max(fit, 1), keep) / fit
    if scale == 1:
        return image
    sides = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    return image.resize(sides, Image.Resampling.LANCZOS)


def decode_split(
    items: Iterable[Encoded], count: int, target: Target, split: str
) -> tuple[ImageSplit, tuple[str, ...]]:
    """Decode at most `count` images to a split of one shape, with a note on those it skipped.

    Raises UserError where no image is readable or two have different shapes.
    """
    images: Pixels | None = None
    larger = Store()
    labels: list[int | None] = []
    skipped: list[str] = []
    first = ""
    for item, pixels in decoded(items, target):
        if isinstance(pixels, Exception):
            skipped.append(f"{item.name} ({first_line(pixels)})")
            continue
        if target.keep > 1 and target.sides is not None:
            larger.add(pixels)
            pixels = _conformed(pixels, target._replace(keep=1))
        if images is None:
            images, first = room((count, *pixels.shape)), item.name
        if pixels.shape != images.shape[1:]:
            raise UserError(
                f"all images must have one shape, but {first} is {_shape(images[0])} and "
                f"{item.name} is {_shape(pixels)}: pass --data.size to resize and crop them"
            )
        images[len(labels)] = pixels
        labels.append(item.label)
    if images is None:
        reason = f"; the first of {len(skipped)} skipped: {skipped[0]}" if skipped else ""
        raise UserError(f"no readable {split} images{reason}")
    classes = [label for label in labels if label is not None]
    complete = len(classes) == len(labels)
    is_larger = any(each.shape[:2] != images.shape[2:] for each in larger.pictures)
    return (
        ImageSplit(
            images[: len(labels)],
            np.array(classes, np.int64) if complete else None,
            tuple(larger.pictures) if is_larger else None,
        ),
        (f"{len(skipped):,} {split} image(s) skipped, first {skipped[0]}",) if skipped else (),
    )


def decoded(
    items: Iterable[Encoded], target: Target
) -> Iterator[tuple[Encoded, Pixels | Exception]]:
    """Decode in order; in threads where the images are large, and never far ahead."""

    def attempt(item: Encoded) -> Pixels | Exception:
        try:
            if item.content is None:
                raise ValueError("no bytes")
            return decode(item.content, target)
        # Damaged files raise almost anything in Pillow's plug-ins; one must not end the run.
        except Exception as error:
            return error

    threads = min(8, os.cpu_count() or 1)
    ahead: deque[tuple[Encoded, Future[Pixels | Exception]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            if not ahead and not _is_large(item):
                yield item, attempt(item)
                continue
            ahead.append((item, pool.submit(attempt, item)))
            if len(ahead) > 2 * threads:
                first, found = ahead.popleft()
                yield first, found.result()
        for item, found in ahead:
            yield item, found.result()


def _is_large(item: Encoded) -> bool:
    return isinstance(item.content, Path) or len(item.content or b"") > WORTH_A_THREAD


def _shape(pixels: Pixels) -> str:
    return f"{pixels.shape[-2]}x{pixels.shape[-1]}"
