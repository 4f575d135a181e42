import numpy as np
import pytest

from rotvq.evaluation.rate_distortion import (
    gaussian_distortion,
    held_out_variances,
    variances,
)


def by_bisection(sigma2, bits):
    """Reverse water-filling by search for the water's level."""
    low, high = 0.0, max(sigma2)
    for _ in range(200):
        level = (low + high) / 2
        rate = sum(max(0.0, 0.5 * np.log2(s / level)) for s in sigma2 if s > 0)
        low, high = (level, high) if rate > bits else (low, level)
    return sum(min(level, s) for s in sigma2) / len(sigma2)


@pytest.mark.parametrize("bits", [0.0, 0.3, 1.0, 7.5, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_water_filling(seed, bits):
    sigma2 = np.random.default_rng(seed).exponential(size=20) ** 3
    sigma2[:4] = 0
    assert gaussian_distortion(sigma2, bits) == pytest.approx(by_bisection(sigma2, bits), rel=1e-9)


@pytest.mark.parametrize("bits", [0.0, 1.0, 5.0, 64.0])
def test_equal_components_share_the_bits(bits):
    assert gaussian_distortion([0.3] * 8, bits) == pytest.approx(0.3 * 4 ** (-bits / 8))


def test_zero_bits_leave_the_variance_and_zero_variance_no_error():
    assert gaussian_distortion([1.0, 3.0], 0.0) == pytest.approx(2.0)
    assert gaussian_distortion([0.0, 0.0], 5.0) == 0.0


def test_variances_match_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 2, 2), dtype=np.uint8)
    images[:, :, 0, 0] = images[:, :, 0, 1]
    found = variances(images)
    pixels = images.reshape(50, 12) / 127.5 - 1
    assert found.sum() == pytest.approx(pixels.var(axis=0).sum(), rel=1e-5)
    assert (found[:3] < 1e-7).all() and (np.diff(found) >= 0).all()
    expected = np.linalg.svd(pixels - pixels.mean(0), compute_uv=False) ** 2 / 50
    assert found[::-1] == pytest.approx(expected, abs=1e-6)


def correlated(n, seed):
    """Images of 8 pixels whose neighbors resemble each other."""
    steps = np.random.default_rng(seed).normal(0, 20, (n, 8))
    pixels = 128 + np.cumsum(steps, axis=1)
    return pixels.clip(0, 255).astype(np.uint8).reshape(n, 2, 2, 2)


def test_held_out_variances_are_along_the_components_of_the_training_images():
    train, held_out = correlated(400, 0), correlated(300, 1)
    x, y = (images.reshape(-1, 8) / 127.5 - 1 for images in (train, held_out))
    _, _, components = np.linalg.svd(x - x.mean(0))
    expected = (((y - x.mean(0)) @ components.T) ** 2).mean(0)[::-1]
    assert held_out_variances(train, held_out) == pytest.approx(expected, rel=1e-4)


def test_images_held_out_from_themselves_have_their_own_variances():
    images = correlated(100, 0)
    found = held_out_variances(images, images)
    assert found == pytest.approx(variances(images), rel=1e-4)


def test_the_bound_of_a_distribution_lies_between_those_of_training_and_held_out_images():
    exact = correlated(2 * 10**5, 0)
    train, held_out = correlated(100, 1), correlated(10**5, 2)
    low, truth, high = (
        gaussian_distortion(each, 8.0)
        for each in (variances(train), variances(exact), held_out_variances(train, held_out))
    )
    assert low < truth < high
