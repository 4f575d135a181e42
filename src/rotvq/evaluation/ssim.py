"""Structural similarity (Wang et al. 2004) in the two conventions of published tables.

Both are means over pixels and channels, with data range 1 and constants 0.01 and 0.03.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

GAUSSIAN = "torchmetrics, Gaussian window of 11x11 with sigma 1.5, borders mirrored"
UNIFORM = (
    "scikit-image's default: uniform window of 7x7, sample covariance, only windows inside the "
    "image, clipped to [0, 1]"
)


def gaussian_ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """SSIM of each image with a Gaussian window of 11x11, σ = 1.5, and mirrored borders.

    Args:
        a: images in [-1, 1]; values outside are not clipped.
        b: images to compare with.

    Returns:
        At most 1; nan for images smaller than the window.
    """
    return _ssim_map((a + 1) / 2, (b + 1) / 2, 11).mean((1, 2, 3))


def uniform_ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """SSIM of each image as `skimage.metrics.structural_similarity` computes it by default.

    A uniform window of 7x7, sample covariances, and only the windows that lie inside the image.
    Values are usually higher than with the Gaussian window.

    Args:
        a: images in [-1, 1]; values outside are clipped.
        b: images to compare with.

    Returns:
        At most 1; nan for images smaller than the window.
    """
    a, b = (((x + 1) / 2).clamp(0, 1) for x in (a, b))
    # Covariances over n - 1 instead of n: (2cf + k)/(vf + k) = (2c + k/f)/(v + k/f), f = 49/48.
    options = {"gaussian_kernel": False, "kernel_size": 7, "k2": 0.03 * math.sqrt(48 / 49)}
    return _ssim_map(a, b, 7, **options)[..., 3:-3, 3:-3].mean((1, 2, 3))


def _ssim_map(a: Tensor, b: Tensor, window: int, **options: Any) -> Tensor:
    """SSIM at every pixel, borders mirrored; nan if the window does not fit."""
    if min(a.shape[2:]) < window:
        return torch.full_like(a, math.nan)
    # Imported late: encoding imports this package too, and must not require torchmetrics.
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(
        a, b, data_range=1.0, reduction="none", return_full_image=True, **options
    )
    assert isinstance(found, tuple)
    return found[1]
