"""The benchmark on photographs: rates, tables and crops side by side."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def photographs():
    """The module, under a name that no other file has."""
    spec = importlib.util.spec_from_file_location("on_photographs", BENCHMARKS / "photographs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def picture():
    """A smooth color picture (61, 70, 3) with some noise."""
    x, y = np.meshgrid(np.linspace(0, 3, 70), np.linspace(0, 2, 61))
    waves = [np.sin(a * x + b * y) for a, b in ((1, 2), (2, -1), (-1, 1))]
    noise = np.random.default_rng(0).normal(0, 4, (61, 70, 3))
    return (np.stack(waves, -1) * 110 + 128 + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("target", "places"),
    [(35, [3, 4]), (40, [3, 4]), (41, [4, 5]), (5, [1]), (10, [1]), (90, [8, 9]), (91, [9])],
)
def test_bisection_finds_the_levels_on_both_sides_of_a_rate(photographs, target, places):
    asked = []

    def bits(level):
        asked.append(level)
        return 10.0 * level

    assert photographs.around(bits, range(1, 10), target) == places
    assert len(asked) <= 4


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_a_codec_is_interpolated_to_the_rate(photographs, picture, name):
    target = photographs.with_codec(name, picture, 40)[0] - 1
    found = photographs.at_rate(name, picture, target).metrics
    first, second = found["settings"]
    assert first["quality"] + 1 == second["quality"] in range(38, 46)
    assert first["bits_per_image"] < target <= second["bits_per_image"]
    share = np.log(target / first["bits_per_image"])
    share /= np.log(second["bits_per_image"] / first["bits_per_image"])
    for key in ("psnr_per_image", "ssim", "ssim_uniform_7x7"):
        assert found[key] == pytest.approx(first[key] + share * (second[key] - first[key]))


def test_the_bits_of_a_file_include_its_header(photographs, picture):
    bits, decoded = photographs.with_codec("JPEG", picture[:1, :1], 50)
    assert bits > 8 * 200
    assert decoded.shape == (1, 1, 3)


def test_a_model_and_its_bits(photographs, picture):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(64, 8, channel_dim=1)
    model = VQVAE(width=16, dim=8, network="patches", quantizer=quantizer).eval()
    assert photographs.tokens_bits(model, picture) == 16 * 18 * 6
    coded = photographs.with_model(model, picture, 0)
    assert coded.pixels.shape == picture.shape
    mse = np.square(coded.pixels / 255.0 - picture / 255.0).mean()
    assert coded.metrics["psnr_per_image"] == pytest.approx(-10 * np.log10(mse), abs=1e-3)


def test_the_table_has_the_means_of_everyday_photographs_and_of_all(photographs):
    names = [*photographs.SHOWN, "retina"]
    pictures = {
        name: {"effort 0": {"psnr_per_image": 20.0 + number}, "JPEG": {"psnr_per_image": 30.0}}
        for number, name in enumerate(names)
    }
    for each in pictures.values():
        for found in each.values():
            found |= {"ssim": 0.5, "ssim_uniform_7x7": 0.6}
    lines = photographs.table(pictures, "psnr_per_image").splitlines()
    assert lines[0] == "| psnr_per_image | effort 0 | JPEG |"
    assert lines[2] == "| astronaut | 20.00 | 30.00 |"
    assert lines[-2:] == ["| mean of everyday | 22.00 | 30.00 |", "| mean of all | 22.50 | 30.00 |"]
