"""Structural similarity (Wang et al. 2004) in the two conventions of published tables.

Both are means over pixels and channels, with data range 1 and constants 0.01 and 0.03.
`structural_error` makes an error for a search of the first.
"""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rotvq.model.error_functions import ErrorFunction, squared_error
from rotvq.names import TuneName

GAUSSIAN = "torchmetrics, Gaussian window of 11x11 with sigma 1.5, borders mirrored"
UNIFORM = (
    "scikit-image's default: uniform window of 7x7, sample covariance, only windows inside the "
    "image, clipped to [0, 1]"
)

WINDOW = 11
"""Side of the Gaussian window in pixels."""

STRUCTURE = 0.03
"""Squared error on [-1, 1] that 1 - SSIM is worth in `structural_error`.

Of 0, 0.01, 0.03, 0.05, 0.1 and 0.3, the largest that does not raise the squared error after a
search, on 256 training images.
"""


def gaussian_ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """SSIM of each image with a Gaussian window of 11x11, σ = 1.5, and mirrored borders.

    Args:
        a: images in [-1, 1]; values outside are not clipped.
        b: images to compare with.

    Returns:
        At most 1; nan for images smaller than the window.
    """
    return _ssim_map((a + 1) / 2, (b + 1) / 2, WINDOW).mean((1, 2, 3))


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


def structural_error(
    reconstruction: Float[Tensor, "b c i j"], x: Float[Tensor, "b c i j"]
) -> Float[Tensor, " b"]:
    """The squared error plus 0.03 (1 - SSIM), summed over the pixels and channels of each image.

    An error to pass to `VQVAE.encode` and `encode_images`: a search for tokens then raises the
    SSIM more, and lowers the squared error about as much. SSIM is that of `gaussian_ssim`; of
    images smaller than its window, only the squared error counts.

    Args:
        reconstruction: images in [-1, 1]; values outside are not clipped.
        x: images to compare with.
    """
    error = squared_error(reconstruction, x)
    if min(x.shape[2:]) < WINDOW:
        return error
    return error + STRUCTURE * math.prod(x.shape[1:]) * (1 - gaussian_ssim(reconstruction, x))


TUNES: dict[TuneName, ErrorFunction] = dict(
    zip(get_args(TuneName), (squared_error, structural_error), strict=True)
)
"""The errors that a search can lower, by the measure that they are for."""


def _ssim_map(a: Tensor, b: Tensor, window: int, **options: Any) -> Tensor:
    """SSIM at every pixel, borders mirrored; nan if the window does not fit."""
    if min(a.shape[2:]) < window:
        return torch.full_like(a, math.nan)
    # Imported late: encoding imports this package too, and must not require torchmetrics.
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (a, b))
    with torch.autocast(a.device.type, enabled=False):  # differences of squares need float32
        found = structural_similarity_index_measure(
            a, b, data_range=1.0, reduction="none", return_full_image=True, **options
        )
    assert isinstance(found, tuple)
    return found[1]
