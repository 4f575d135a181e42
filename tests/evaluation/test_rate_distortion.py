import numpy as np
import pytest

from rotvq.evaluation.rate_distortion import gaussian_distortion, variances


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
