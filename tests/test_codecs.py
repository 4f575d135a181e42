"""The benchmark of codecs: tiles, colors, rates, and what a codec returns."""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from rate import at, bracket, metrics, tiled, untiled

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def codecs():
    """The module; the name `codecs` belongs to the standard library."""
    spec = importlib.util.spec_from_file_location("codec_benchmark", BENCHMARKS / "codecs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def images():
    """Smooth color images (4, 32, 32, 3)."""
    x, y = np.meshgrid(np.linspace(0, 3, 32), np.linspace(0, 2, 32))
    waves = [np.sin(a * x + b * y) for a, b in ((1, 2), (2, -1), (-1, 1))]
    one = (np.stack(waves, -1) * 110 + 128).astype(np.uint8)
    return np.stack([one, one[::-1], one[:, ::-1], 255 - one])


def test_tiles_lie_row_by_row(images):
    (picture,) = tiled(images, 2)
    assert picture.shape == (64, 64, 3)
    assert np.array_equal(picture[:32, 32:], images[1])
    assert np.array_equal(picture[32:, :32], images[2])
    assert np.array_equal(untiled(picture[None], 2), images)


def test_metrics_are_means_over_images(images):
    decoded = images.astype(np.float64)
    decoded[0] += 12.75
    found = metrics(decoded, images)
    assert found["mse"] == pytest.approx(0.01 / 4, rel=1e-4)
    assert found["psnr_per_image"] == pytest.approx((10 * np.log10(400) + 3 * 100) / 4, rel=1e-4)
    assert 0.9 < found["ssim"] < 1 and 0.9 < found["ssim_uniform_7x7"] < 1


@pytest.mark.parametrize("start", [0, 3, 8])
@pytest.mark.parametrize(("target", "places"), [(35, [2, 3]), (40, [2, 3]), (5, [0]), (90, [7, 8])])
def test_the_rate_lies_between_neighboring_levels(start, target, places):
    asked = []

    def bits(place):
        asked.append(place)
        return 10 * (place + 1)

    assert bracket(bits, 9, start, target) == places
    assert set(asked) <= set(range(9))


def test_a_rate_that_no_level_reaches_is_an_error():
    with pytest.raises(ValueError, match="expected one of 99 bits; got 30"):
        bracket(lambda place: 10.0 * (place + 1), 3, 0, 99)


def test_an_exponential_curve_is_interpolated_exactly():
    def point(bits):
        return {
            "bits_per_image": bits,
            "mse": 7 * bits**-1.1,
            **dict.fromkeys(("psnr_per_image", "ssim", "ssim_uniform_7x7"), 3 + 2 * np.log(bits)),
        }

    found = at(640, point(600), point(700))
    expected = point(640)
    assert found == pytest.approx({name: expected[name] for name in found})


def test_a_codec_of_pillow_counts_whole_files(codecs, images):
    size, decoded = codecs.with_pillow(images, 90, kind="JPEG", subsampling="4:4:4")
    assert size > 4 * 300
    assert 0 < metrics(decoded, images)["mse"] < 1e-3


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize(
    ("options", "kind", "counted"),
    [
        ("-c:v libx265 -x265-params qp=LEVEL:keyint=1:log-level=error", "hevc", "16-21"),
        ("-c:v libaom-av1 -cpu-used 8 -usage allintra -g 0 -crf LEVEL", "obu", "6"),
    ],
    ids=["x265", "AV1"],
)
def test_a_codec_of_ffmpeg_returns_the_colors_and_counts_the_frames(
    codecs, images, options, kind, counted
):
    given = {"options": options, "kind": kind}
    whole, decoded = codecs.with_ffmpeg(images, 4, **given)
    frames, _ = codecs.with_ffmpeg(images, 4, **given, counted=counted)
    assert 0 < metrics(decoded, images)["mse"] < 1e-3
    assert 4 * 20 < frames < whole - 4 * 10
