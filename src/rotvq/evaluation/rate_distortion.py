"""The smallest distortion that any code of a given rate could have if images were Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8


def variances(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, " d"]:
    """Variances of images along their principal components, d = c·h·w, in units of [-1, 1].

    Args:
        images: uint8, converted to x/127.5 - 1.

    Returns:
        Eigenvalues of the covariance matrix, float64, in ascending order.
    """
    return np.linalg.eigvalsh(_moments(images)[1]).clip(min=0)


def held_out_variances(
    train: UInt8[np.ndarray, "n c h w"], held_out: UInt8[np.ndarray, "m c h w"]
) -> Float[np.ndarray, " d"]:
    """Mean squares of held-out images along the principal components of the training images.

    A finite sample spreads the eigenvalues of its own covariance, so a bound computed from
    `variances` is too low on average. Along axes that other images have chosen, nothing is
    spread, and ignoring what correlation is left makes the bound too high: the bound of the
    distribution lies between the two.

    Args:
        train: uint8, converted to x/127.5 - 1; their mean is subtracted.
        held_out: images of the same shape.

    Returns:
        float64, in the order of `variances(train)`.
    """
    mean, covariance = _moments(train)
    _, components = np.linalg.eigh(covariance)
    projected = (_vectors(held_out) - mean) @ components.astype(np.float32)
    return np.square(projected).mean(axis=0, dtype=np.float64)


def gaussian_distortion(variances: Sequence[float] | np.ndarray, bits: float) -> float:
    """Mean squared error of a Gaussian source at its rate-distortion bound.

    Reverse water-filling: each component is coded down to the level θ, or left out if its variance
    is below θ; D = Σ min(θ, σ²), R = Σ max(0, ½ log2(σ²/θ)) (Cover and Thomas, Elements of
    Information Theory, theorem 10.3.3). Of all sources with the same covariance the Gaussian is the
    hardest to code, so images, which are not Gaussian, can have a smaller error than this.

    Args:
        variances: σ² of each component.
        bits: R, of a whole vector.

    Returns:
        D divided by the number of components.
    """
    ordered = np.sort(np.asarray(variances, dtype=np.float64))[::-1]
    positive = ordered[ordered > 0]
    if not len(positive):
        return 0.0
    # With the first n components coded, n log2 θ is the sum of their log2 σ² minus 2R.
    counts = np.arange(1, len(positive) + 1)
    levels = (np.cumsum(np.log2(positive)) - 2 * bits) / counts
    last = np.flatnonzero(np.log2(positive) > levels)
    level = 2.0 ** levels[last[-1]] if len(last) else positive[0]
    return math.fsum(np.minimum(level, ordered)) / len(ordered)


def _vectors(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n d"]:
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1


def _moments(images: UInt8[np.ndarray, "n c h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance, the latter float64."""
    x = _vectors(images)
    mean = x.mean(axis=0)
    x -= mean
    return mean, (x.T @ x).astype(np.float64) / len(x)
