"""Pixels of any mode to 8-bit grey or sRGB: ranges, colour profiles, transparency."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from itertools import product

import numpy as np
from PIL import Image, ImageCms

from rotvq.data_processing.image_formats import Unreadable

_GREY = frozenset({"1", "L", "LA", "La"})
_LARGEST_PROFILE = 2**23
"""Bytes; those of printers have up to 3 MB."""
_SAME = 1
"""Levels of 256 by which a profile may differ from sRGB and not be converted."""
_TIFF_BITS = 258


class ProfileError(ValueError):
    """A colour profile that is damaged, or of another kind of image than the one it lies in."""


def stored_bits(image: Image.Image) -> int | None:
    """Bits that a grey image of more than 8 declares; None where it has no more than 8.

    Raises:
        Unreadable: floats, or integers of which no range is known.
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
    """Bring integers from 0 to 2**bits − 1 to 8-bit grey.

    Raises:
        Unreadable: a value is beyond.
    """
    values = np.asarray(image)
    if values.max() >= 2**bits:
        raise Unreadable("values beyond --data.bits", f"{values.max()}, beyond {bits} bits")
    table = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
    return Image.fromarray(table[values])


def to_srgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    """Bring an 8-bit image of any mode to L or RGB: sRGB, transparent parts over white.

    Args:
        image: of a mode that has 8 bits a channel, or one.
        profile: ICC profile of its colours.
    """
    alpha = None
    if image.has_transparency_data:
        if image.mode in ("La", "RGBa"):
            image = image.convert(image.mode.upper())
        alpha = image.convert("RGBA").getchannel("A")
    base = "L" if image.mode in _GREY else image.mode
    base = base if base in ("L", "CMYK", "LAB") else "RGB"
    if image.mode != base:
        image = (image.convert("RGBA") if alpha is not None else image).convert(base)
    if image.mode == "LAB":
        image = ImageCms.applyTransform(image, _from_lab())  # type: ignore[assignment]
    elif profile and (transform := _to_srgb(profile, image.mode)):
        image = ImageCms.applyTransform(image, transform)  # type: ignore[assignment]
    if image.mode == "CMYK":
        image = image.convert("RGB")
    if alpha is not None:
        over = Image.new(image.mode, image.size, "white")
        over.paste(image, mask=alpha)
        return over
    return image


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What brings an image of the mode to RGB; None where the profile is that of sRGB.

    Raises:
        ProfileError: it is none for this mode.
    """
    if len(profile) > _LARGEST_PROFILE:
        raise ProfileError(f"{len(profile):,} bytes")
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)), _srgb(), mode, "RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise ProfileError(str(error)) from None
    if mode == "CMYK":
        return transform
    # Most profiles are some edition of sRGB: those images stay as they are, to the bit.
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.array([*product(levels, repeat=3)], np.uint8)[None]
    probe = Image.fromarray(colours if mode == "RGB" else levels[None])
    after = np.asarray(ImageCms.applyTransform(probe, transform)).astype(np.int16)
    same = np.abs(after - np.asarray(probe.convert("RGB"))).max() <= _SAME
    return None if same else transform


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
