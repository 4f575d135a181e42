"""SSIM in both conventions, against float64 computations window by window."""

import numpy as np
import pytest
import torch

from rotvq.evaluation.pixels import normalized
from rotvq.evaluation.ssim import gaussian_ssim, structural_error, uniform_ssim
from rotvq.model.error_functions import squared_error


def gaussian_oracle(a, b):
    """SSIM of an image on [0, 1]: Gaussian of 11 and sigma 1.5, borders mirrored."""
    x = np.arange(11) - 5
    g = np.exp(-(x**2) / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum() ** 2

    def filtered(image):
        padded = np.pad(image, 5, mode="reflect")
        patches = np.lib.stride_tricks.sliding_window_view(padded, (11, 11))
        return (patches * window).sum((2, 3))

    values = []
    for p, q in zip(a, b, strict=True):
        mp, mq = filtered(p), filtered(q)
        vp, vq = filtered(p * p) - mp**2, filtered(q * q) - mq**2
        cov = filtered(p * q) - mp * mq
        top = (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2)
        values.append(top / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2)))
    return float(np.mean(values))


def uniform_oracle(a, b):
    """SSIM of an image on [0, 1]: every window of 7x7 inside it, sample covariances."""
    values = []
    for p, q in zip(a, b, strict=True):
        windows = (
            np.lib.stride_tricks.sliding_window_view(image, (7, 7)).reshape(-1, 49)
            for image in (p, q)
        )
        for u, v in zip(*windows, strict=True):
            (vu, cov), (_, vv) = np.cov(u, v)
            top = (2 * u.mean() * v.mean() + 0.01**2) * (2 * cov + 0.03**2)
            values.append(top / ((u.mean() ** 2 + v.mean() ** 2 + 0.01**2) * (vu + vv + 0.03**2)))
    return float(np.mean(values))


def on_unit(x):
    """From [-1, 1] to [0, 1], float64."""
    return (x.double().numpy() + 1) / 2


CONVENTIONS = pytest.mark.parametrize(
    ("ssim", "oracle", "window"),
    [(gaussian_ssim, gaussian_oracle, 11), (uniform_ssim, uniform_oracle, 7)],
    ids=["gaussian", "uniform"],
)


@CONVENTIONS
def test_ssim_is_that_of_its_definition(make_images, ssim, oracle, window):
    for height, width in ((window, window), (window + 2, 16)):
        x = normalized(make_images(3, height=height, width=width))
        assert ssim(x, x) == pytest.approx(torch.ones(3))
        wavy = (x + 0.2 * torch.sin(9 * x)).clamp(-1, 1)
        for y in (wavy, torch.zeros_like(x)):
            expected = [oracle(a, b) for a, b in zip(on_unit(y), on_unit(x), strict=True)]
            assert max(expected) < 0.99
            assert ssim(y, x).tolist() == pytest.approx(expected, abs=1e-3)


def test_the_uniform_window_is_scikit_images_default(make_images):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    x = normalized(make_images(8))
    y = x + 0.2 * torch.sin(9 * x)
    pairs = zip(on_unit(y).clip(0, 1), on_unit(x), strict=True)
    expected = [structural_similarity(a, b, channel_axis=0, data_range=1) for a, b in pairs]
    assert uniform_ssim(y, x).tolist() == pytest.approx(expected, abs=1e-4)


def test_only_the_uniform_convention_clips(make_images):
    x = normalized(make_images(4))
    beyond = 1.5 * x
    assert torch.equal(uniform_ssim(beyond, x), uniform_ssim(beyond.clamp(-1, 1), x))
    assert (gaussian_ssim(beyond, x) < gaussian_ssim(beyond.clamp(-1, 1), x)).all()


@CONVENTIONS
def test_an_image_has_the_same_ssim_in_a_batch(make_images, ssim, oracle, window):
    x = normalized(make_images(4))
    y = (x + 0.2 * torch.sin(9 * x)).clamp(-1, 1)
    together = ssim(x, y)
    alone = torch.cat([ssim(a, b) for a, b in zip(x.split(1), y.split(1), strict=True)])
    assert together.shape == alone.shape == (4,)
    torch.testing.assert_close(alone, together)


def test_the_structural_error_adds_what_structure_is_worth_in_squared_error(make_images):
    x = normalized(make_images(3, height=13, width=16))
    y = (x + 0.2 * torch.sin(9 * x)).requires_grad_()
    losses = [1 - gaussian_oracle(*map(on_unit, pair)) for pair in zip(y.detach(), x, strict=True)]
    expected = squared_error(y, x) + 0.03 * 3 * 13 * 16 * torch.tensor(losses)
    error = structural_error(y, x)
    assert error.tolist() == pytest.approx(expected.tolist(), rel=1e-3)
    (gradient,) = torch.autograd.grad(error.sum(), y)
    assert gradient.isfinite().all() and not torch.allclose(gradient, 2 * (y - x))
    small = x[..., :10], y[..., :10]
    assert torch.equal(structural_error(*small), squared_error(*small))


@CONVENTIONS
def test_autocast_changes_nothing(make_images, ssim, oracle, window):
    x = normalized(make_images(3))
    y = x + 0.02 * torch.sin(9 * x)
    with torch.autocast("cpu", torch.bfloat16):
        found = ssim(y, x)
    assert torch.equal(found, ssim(y, x)) and found.dtype == torch.float32


@CONVENTIONS
def test_images_smaller_than_the_window_have_none(make_images, ssim, oracle, window):
    x = normalized(make_images(2, height=window - 1, width=32))
    assert ssim(x, x).isnan().all()
