"""Converts any image mode to 8-bit gray or sRGB: ranges, color profiles, transparency."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from itertools import product

import numpy as np
from PIL import Image, ImageChops, ImageCms

from rotvq.data_processing.image_formats import Unreadable

_GRAY = frozenset({"1", "L", "LA", "La"})
_LARGEST_PROFILE = 2**23
"""Bytes; printer profiles have up to 3 MB."""
_SAME = 1
"""Profiles within this many of 256 levels of sRGB are taken for sRGB."""
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262

Convert = Callable[[Image.Image], Image.Image]


class ProfileError(ValueError):
    """A color profile that is damaged or does not match the image's mode."""


def stored_bits(image: Image.Image) -> int | None:
    """Bits per pixel of a gray image with more than 8; None for any other image.

    Raises:
        Unreadable: the pixels are floats, or integers of unknown range.
    """
    if image.mode.startswith("I;16"):
        if image.format == "TIFF":
            return int(image.tag_v2[_TIFF_BITS][0])  # type: ignore[attr-defined]
        return 16
    if image.mode == "I" and image.format in ("PPM", "PNG"):  # Pillow scales PGM to 16 bits
        return 16
    if image.mode in ("I", "F"):
        raise Unreadable("pixels without a known range", f"mode {image.mode}")
    return None


def scaled(image: Image.Image, bits: int) -> Image.Image:
    """Scale integers from 0 to 2**bits − 1 to 8-bit gray.

    Raises:
        Unreadable: a value exceeds this range.
    """
    values = np.asarray(image)
    if values.max() >= 2**bits:
        raise Unreadable("values beyond --data.bits", f"{values.max()}, beyond {bits} bits")
    table = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
    if image.format == "TIFF" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        table = table[::-1]  # white is zero
    return Image.fromarray(table[values])


def to_srgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    """Convert an image to L or sRGB, composited over white.

    Args:
        image: any mode with at most 8 bits per channel.
        profile: its ICC color profile.
    """
    alpha = None
    if image.has_transparency_data:
        with_alpha = "LA" if image.mode in _GRAY else "RGBA"
        image = image if image.mode == with_alpha else image.convert(with_alpha)
        alpha = image.getchannel("A")
    base = "L" if image.mode in _GRAY else image.mode
    base = base if base in ("L", "CMYK", "LAB") else "RGB"
    if image.mode != base:
        image = image.convert(base)
    if image.mode == "LAB":
        image = ImageCms.applyTransform(image, _from_lab())  # type: ignore[assignment]
    elif profile and (convert := _to_srgb(profile, image.mode)):
        image = convert(image)
    if image.mode == "CMYK":
        image = image.convert("RGB")
    if alpha is not None:
        image.paste("white", mask=ImageChops.invert(alpha))
    return image


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> Convert | None:
    """A conversion from the profile to sRGB; None if the profile is sRGB.

    Raises:
        ProfileError: the profile is damaged or does not match the mode.
    """
    if len(profile) > _LARGEST_PROFILE:
        raise ProfileError(f"{len(profile):,} bytes")
    # The optimized tables are off by 10 levels in dark grays; 256 gray values can be exact.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)), _srgb(), mode, "RGB", flags=flags
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise ProfileError(str(error)) from None

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None
        return converted

    if mode == "CMYK":
        return convert
    # Most profiles are a variant of sRGB: those images stay bit-identical.
    every = np.arange(256, dtype=np.uint8)
    before = every if mode == "L" else np.array([*product(every[::15], repeat=3)], np.uint8)
    after = np.asarray(convert(Image.fromarray(before[None])))[0]
    after = after[:, 1] if mode == "L" else after
    if np.abs(after.astype(np.int16) - before).max() <= _SAME:
        return None
    return (lambda image: image.point(after.tolist())) if mode == "L" else convert


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
