"""Modes, ranges and color profiles, against formulas in float64."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from rotvq.data_processing.decoding import Encoded, Findings, decode, decoded
from rotvq.data_processing.image_formats import Unreadable
from rotvq.data_processing.resizing import Target

_SPEC = importlib.util.spec_from_file_location("profiles", Path(__file__).with_name("profiles.py"))
assert _SPEC and _SPEC.loader
profiles = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(profiles)

RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
GRAY = Target(None, 1)


def encode(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def findings_of(*contents: bytes, target: Target = GRAY) -> Findings:
    findings = Findings()
    items = [Encoded(f"{i}.png", content) for i, content in enumerate(contents)]
    for _ in decoded(items, target, findings):
        pass
    return findings


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP"])
def test_a_profile_is_converted_to_srgb(format_: str) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    content = encode(Image.fromarray(RGB), format_, icc_profile=profiles.adobe_rgb(), **options)
    found = decode(content, Target()).transpose(1, 2, 0)
    expected = profiles.adobe_in_srgb(RGB)
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.5 < 5 < np.abs(RGB - expected).mean()


def test_transparency_lies_over_white_after_conversion() -> None:
    alpha = np.full((30, 40, 1), 128, np.uint8)
    image = Image.fromarray(np.concatenate([RGB, alpha], 2))
    found = decode(encode(image, icc_profile=profiles.adobe_rgb()), Target()).transpose(1, 2, 0)
    expected = 255 + (profiles.adobe_in_srgb(RGB) - 255) * (128 / 255)
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_gray_profile(mode: str) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(ramp).convert(mode)
    found = decode(encode(image, icc_profile=profiles.gray(1.0)), GRAY)[0]
    assert np.abs(found - profiles.gray_in_srgb(ramp, 1.0)).max() <= 2


def test_srgb_profiles_change_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = decode(encode(Image.fromarray(RGB), icc_profile=profile), Target())
    assert np.array_equal(found, RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("profile", [b"no profile", profiles.gray(2.2), b"x" * 2**24])
def test_a_profile_that_does_not_fit_is_ignored_and_listed(profile: bytes) -> None:
    image = Image.fromarray(RGB)
    stream = io.BytesIO()
    image.save(stream, "TIFF", icc_profile=profile)
    findings = Findings()
    ((_, pixels),) = decoded([Encoded("a.tif", stream.getvalue())], Target(), findings)
    assert np.array_equal(pixels, RGB.transpose(2, 0, 1))
    assert [each[:2] for each in findings.skipped] == [
        ("a.tif", "color profile that does not fit, ignored")
    ]


def test_lab_is_converted() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(RGB), srgb, lab, outputMode="LAB")
    found = decode(encode(image, "TIFF"), Target()).transpose(1, 2, 0)
    assert np.abs(found.astype(int) - RGB).mean() < 3  # LAB in 8 bits is coarse


@pytest.mark.parametrize(("bits", "most"), [(12, 4095), (10, 1023), (14, 16383), (16, 65535)])
def test_gray_of_fewer_bits_in_16(bits: int, most: int) -> None:
    values = np.linspace(0, most, 400).astype(np.uint16).reshape(20, 20)
    content = encode(Image.fromarray(values))
    found = decode(content, Target(None, 1, bits))[0]
    assert np.abs(found - values * (255 / most)).max() <= 0.5
    notes = findings_of(content).notes
    if bits == 16:
        assert notes == ()
    else:
        assert len(notes) == 1 and f"pass --data.bits {bits} (" in notes[0]


@pytest.mark.parametrize("white_is_zero", [True, False])
def test_a_tiff_says_which_end_is_white(white_is_zero: bool) -> None:
    values = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    content = encode(Image.fromarray(values), "TIFF", tiffinfo={262: int(not white_is_zero)})
    seen = 65535.0 - values if white_is_zero else values
    assert np.abs(decode(content, GRAY)[0] - seen / 257).max() <= 0.5


def test_one_bright_image_shows_that_16_bits_are_meant() -> None:
    dark = np.full((8, 8), 300, np.uint16)
    bright = np.full((8, 8), 60_000, np.uint16)
    contents = [encode(Image.fromarray(values)) for values in (dark, bright)]
    assert findings_of(*contents).notes == ()


def test_values_beyond_the_declared_bits_are_refused() -> None:
    content = encode(Image.fromarray(np.full((8, 8), 5000, np.uint16)))
    findings = findings_of(content, target=Target(None, 1, 12))
    assert [each[1:] for each in findings.skipped] == [
        ("values beyond --data.bits", "5000, beyond 12 bits")
    ]


def test_a_declared_range_needs_no_option() -> None:
    pgm = b"P5 4 4 1023\n" + np.full(16, 1023, ">u2").tobytes()
    assert (decode(pgm, Target(None, 1, 12)) == 255).all()
    assert findings_of(pgm).notes == ()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_known_range_are_refused(mode: str) -> None:
    with pytest.raises(Unreadable, match=f"pixels without a known range: mode {mode}"):
        decode(encode(Image.new(mode, (5, 5)), "TIFF"), Target())
