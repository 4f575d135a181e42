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
    x = images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1
    x -= x.mean(axis=0)
    covariance = (x.T @ x).astype(np.float64) / len(x)
    return np.linalg.eigvalsh(covariance).clip(min=0)


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
