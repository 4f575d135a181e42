"""t-SNE of a codebook, with the paper's parameters (Figures 6 to 8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERPLEXITY, LEARNING_RATE, ITERATIONS = 30, 200, 1000


def embed(codes: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Codes (k, d) to points (k, 2): perplexity 30, learning rate 200, 1000 iterations.

    Args:
        codes: float32; with 30 codes or fewer, the perplexity is a third of them.
        seed: of the embedding.
    """
    from sklearn.manifold import TSNE

    # An untrained codebook spans 1/K: t-SNE squares distances, and its search stops below 1e-7.
    scaled = codes / max(float(np.abs(codes).max()), 1e-30)
    return TSNE(
        perplexity=min(PERPLEXITY, max(1.0, (len(codes) - 1) / 3)),
        learning_rate=LEARNING_RATE,
        max_iter=ITERATIONS,
        init="pca",
        random_state=seed,
    ).fit_transform(scaled)
