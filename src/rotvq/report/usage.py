"""How images use a codebook: a map of their tokens, and their codes by frequency."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rotvq.report import style

HEIGHT = 2.6
"""Inches of an image's row."""


def usage(grids: Sequence[NDArray[np.int64]], size: int, titles: Sequence[str]) -> bytes:
    """A row for each image, as PNG; the arguments are those of `draw`."""
    with style.look():
        return style.png(draw(grids, size, titles))


def draw(grids: Sequence[NDArray[np.int64]], size: int, titles: Sequence[str]) -> Figure:
    """A row for each image, in the current look.

    Args:
        grids: indices (rows, columns) of each image.
        size: number of codes.
        titles: of the images.
    """
    counts = [np.bincount(grid.ravel(), minlength=size) for grid in grids]
    most = max(int(count.max()) for count in counts)
    widest = max(int((count > 0).sum()) for count in counts)
    figure = Figure(figsize=(style.WIDTH, 0.5 + HEIGHT * len(grids)), layout="constrained")
    axes = figure.subplots(len(grids), 2, squeeze=False, width_ratios=(1, 1.6))
    for (left, right), grid, count, title in zip(axes, grids, counts, titles, strict=True):
        norm = LogNorm(1, max(2, most))
        image = left.imshow(count[grid], norm=norm, cmap="viridis", interpolation="nearest")
        left.set_title(style.plain(style.shorten(title, 40)))
        left.set_xticks([])
        left.set_yticks([])
        left.grid(False)
        bar = figure.colorbar(image, ax=left, label="tokens with the same code", shrink=0.9)
        style.log_ticks(bar.ax.yaxis)
        used = np.sort(count[count > 0])[::-1]
        share = used / used.sum()
        perplexity = np.exp(-(share * np.log(share)).sum())
        right.stairs(used, np.arange(len(used) + 1), fill=True, color=style.color(0))
        codes = f"{len(used):,} of {size:,} codes"
        right.set_title(f"{grid.size:,} tokens, {codes}, perplexity {perplexity:,.0f}")
        right.set_xlim(0, widest)
        right.set_yscale("log")
        right.set_ylim(0.8, most * 1.25)
        right.set_ylabel("tokens")
        style.log_ticks(right.yaxis)
    axes[-1][1].set_xlabel("codes of the image, most used first")
    return figure
