"""Figures of one run: its curves, reconstructions, codebook and gradients over the epochs.

Figures 1 to 8 of the paper, and the gradient flow of its visualization experiment. Pure but for
reading the run's pictures and gradient norms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rotvq.errors import UserError
from rotvq.report import style, tiles
from rotvq.report.figures import Panel, draw_panel
from rotvq.report.page import Picture
from rotvq.studies.figure import Look, plot
from rotvq.studies.milestones import PAPER_EPOCHS, RECONSTRUCTIONS, milestone
from rotvq.studies.plan import GRADIENTS
from rotvq.studies.results import Result, read_norms

Matrix = NDArray[np.float64]

BATCHES: Look = {"color": style.color(1), "linestyle": ":", "marker": "^"}
"""The look of a mean over training batches."""

ZERO = "#e4e4e4"
"""The color of a gradient of zero."""

_COLORS = "viridis"
# Without viridis's palest tenth, which is faint on white.
_USES = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1, 256)), "uses")
_DEAD: Look = {
    "color": "#a0a0a0",
    "marker": "x",
    "markersize": 2.8,
    "markeredgewidth": 0.6,
    "linestyle": "",
}
_CURVES = (
    Panel("Total loss", "weighted sum", "loss", log=True, train=True),
    Panel("Reconstruction loss", "mean squared error", "reconstruction_loss", log=True, train=True),
    Panel("Codebook loss", "mean squared distance", "codebook_loss", log=True, train=True),
    Panel("Perplexity", "codes", "perplexity", train=True, limits=(0, None)),
    Panel("Codebook usage", "% of codes", "usage", train=True, factor=100, limits=(0, 104)),
)


def curves(name: str, result: Result) -> Picture:
    """A run epoch by epoch: losses, perplexity and usage, training dashed and test solid."""
    epochs = result.record.epochs
    with style.look():
        layout = ConstrainedLayoutEngine(wspace=0.04, hspace=0.06)
        figure = Figure(figsize=(style.WIDTH, 5.4), layout=layout)
        *places, corner = figure.subplots(2, 3).flat
        for axes, panel in zip(places, _CURVES, strict=True):
            draw_panel(axes, panel, [result.record])
        batches = [epoch.train.get("batch_perplexity", math.nan) for epoch in epochs]
        mark = "" if len(epochs) > 1 else BATCHES["marker"]
        places[3].plot([e.number for e in epochs], batches, **{**BATCHES, "marker": mark})
        corner.axis("off")
        blue = {"color": style.color(0)}
        looks: dict[str, Look] = {
            "test": {**blue, "linestyle": "-"},
            "train": {**blue, "linestyle": "--"},
            "train, batch mean": {**BATCHES, "marker": ""},
        }
        handles = [Line2D([], [], **look) for look in looks.values()]
        corner.legend(handles, list(looks), loc="center left")
        png = style.png(figure)
    return plot(
        name,
        png,
        "Curves over epochs: total, reconstruction and codebook loss, perplexity and usage.",
        "Metrics after each epoch: test (solid) and training (dashed). Losses are on a log scale.",
    )


def reconstructions(name: str, result: Result, epochs: Mapping[int, int] | None = None) -> Picture:
    """Figures 1 to 5: test images and their reconstructions after each milestone.

    Args:
        name: of the picture.
        result: a run; epochs without a recorded picture are left out.
        epochs: from the paper's epoch (0 to 99) to this run's (from 1); by default `milestone`.

    Raises:
        UserError: the run has no picture of any of these epochs, or one is damaged.
    """
    length = result.run.config.training.epochs
    epochs = epochs or {at: milestone(at, length) for at in RECONSTRUCTIONS}
    recorded = result.record.pictures
    pairs = {
        at: tiles.pairs_of(result.record, epoch)
        for at, epoch in epochs.items()
        if epoch in recorded
    }
    if not pairs:
        raise UserError(
            f"{result.record.path / 'reconstructions'}: expected the picture of an epoch among "
            f"{sorted(set(epochs.values()))}; got none. Remove the run's folder to train it again."
        )
    rows = [
        tiles.Row(
            f"epoch {at} of {PAPER_EPOCHS} (here: {epochs[at]} of {length})",
            pair.reconstructions[0],
        )
        for at, pair in pairs.items()
    ]
    original = tiles.Row("original", next(iter(pairs.values())).originals[0])
    drawn = tiles.draw([[original, *rows]])
    shown = ", ".join(map(str, dict.fromkeys(epochs.values())))
    return Picture(
        f"{name}.png",
        drawn.png,
        drawn.width,
        f"Test images, and below them their reconstructions after epochs {shown}.",
        "The same test images each time, decoded from their indices and enlarged without "
        f"smoothing, after epochs {shown} of {length}, which correspond to the paper's "
        f"{', '.join(map(str, epochs))}.",
    )


def codebook_maps(name: str, result: Result) -> Picture:
    """Figures 6 to 8: t-SNE of the codebook after some epochs, codes colored by their usage.

    Args:
        name: of the picture.
        result: a run with the measurement "tsne".
    """
    epochs = result.measured["tsne"]["epochs"]
    shares = [np.array(e["uses"]) / max(1, sum(e["uses"])) for e in epochs]
    norm = _log_norm(100 * np.concatenate(shares))
    with style.look():
        some_dead = any((share == 0).any() for share in shares)
        # Square panels, as high as the color bar.
        figure = Figure(figsize=(style.WIDTH, 3.22 + 0.26 * some_dead), layout="constrained")
        places = figure.subplots(1, len(epochs), squeeze=False)[0]
        for axes, epoch, share in zip(places, epochs, shares, strict=True):
            _map(axes, np.array(epoch["points"]), 100 * share, norm)
            dead = int(np.count_nonzero(share == 0))
            axes.set_title(f"Epoch {epoch['epoch']}: {dead} of {len(share)} codes dead")
        _color_bar(figure, places, ScalarMappable(norm, _USES), "share of the tokens (%)")
        if some_dead:
            mark = Line2D([], [], **{**_DEAD, "markersize": 5})
            style.legend(figure, [mark], ["dead: no token of the test images uses the code"])
        png = style.png(figure)
    return plot(
        name,
        png,
        "t-SNE of the codebook at three epochs, each code colored by its usage; crosses: dead.",
        "t-SNE of the codes with the paper's parameters (perplexity 30, learning rate 200, 1000 "
        "iterations), fitted separately for each panel, so positions cannot be compared across "
        "panels. Color: share of the tokens of 1,024 test images; dead codes are used by none.",
    )


def gradient_flow(name: str, result: Result) -> Picture:
    """The norm of the loss's gradient by parameter and epoch, in the order of the forward pass.

    Raises:
        UserError: the run's gradients.json is missing or damaged.
    """
    norms = read_norms(result.run.folder / GRADIENTS)
    last = result.run.config.training.epochs
    if not (norms and 1 <= min(norms) <= max(norms) <= last):
        raise UserError(
            f"{result.run.folder / GRADIENTS}: expected the gradient norms of epochs 1 to {last}; "
            f"got others. Remove {result.run.folder} to train it again."
        )
    epochs = range(min(norms), max(norms) + 1)
    layers, sides = by_layer(norms, epochs)
    norm = _log_norm(np.concatenate(list(sides.values()), axis=None))
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 1.3 + 0.26 * len(layers)), layout="constrained")
        places = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
        for axes, (title, values) in zip(places, sides.items(), strict=True):
            _heatmap(axes, values, epochs, norm)
            axes.set_title(title)
            for border in _borders(layers):
                axes.axhline(border, color="white", linewidth=3)
        places[0].set_yticks(range(len(layers)), [style.plain(layer) for layer in layers])
        places[0].set_ylabel("layer, in the order of the forward pass")
        _color_bar(figure, places, ScalarMappable(norm, _COLORS), "gradient norm")
        if any((values == 0).any() for values in sides.values()):
            style.legend(figure, [Patch(color=ZERO)], ["gradient of zero"])
        png = style.png(figure)
    return plot(
        name,
        png,
        "Norm of the loss's gradient by parameter of the encoder and decoder, over the epochs.",
        "Gradient flow: the norm of the total loss's gradient by each parameter after each epoch, "
        "on one fixed batch of training images.",
    )


def by_layer(
    norms: Mapping[int, Mapping[str, float]], epochs: range
) -> tuple[list[str], dict[str, Matrix]]:
    """The layers, and matrices (layers, epochs) of the norms of their weights and biases.

    Args:
        norms: by epoch and parameter; the layers keep its order.
        epochs: the columns; nan where nothing is recorded.
    """
    names = list(dict.fromkeys(name for values in norms.values() for name in values))
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    kinds = {name: "Biases" if name.endswith(".bias") else "Weights" for name in names}
    shape = (len(layers), len(epochs))
    sides = {kind: np.full(shape, np.nan) for kind in sorted(set(kinds.values()), reverse=True)}
    for epoch, values in norms.items():
        for name, value in values.items():
            row = layers.index(name.rpartition(".")[0])
            sides[kinds[name]][row, epoch - epochs[0]] = value
    return layers, sides


def _map(axes: Axes, points: Matrix, percent: Matrix, norm: LogNorm) -> None:
    """One square panel: dead codes at the bottom, the most used on top."""
    used = np.flatnonzero(percent > 0)
    used = used[np.argsort(percent[used])]
    axes.plot(*points[percent == 0].T, **_DEAD)
    axes.scatter(
        points[used, 0], points[used, 1], c=percent[used], norm=norm, cmap=_USES,
        s=13, linewidths=0.25, edgecolors="white", zorder=3,
    )  # fmt: skip
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    half = 0.54 * max(float(np.ptp(points, axis=0).max()), 1e-9)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set_box_aspect(1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)


def _heatmap(axes: Axes, values: Matrix, epochs: range, norm: LogNorm) -> None:
    columns = np.arange(epochs[0], epochs[-1] + 2) - 0.5
    rows = np.arange(len(values) + 1) - 0.5
    axes.pcolormesh(columns, rows, np.where(values == 0, 1.0, np.nan), cmap=ListedColormap([ZERO]))
    axes.pcolormesh(
        columns, rows, np.ma.masked_where(~(values > 0), values), norm=norm, cmap=_COLORS
    )
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)


def _borders(layers: Sequence[str]) -> list[float]:
    """The boundaries between encoder and decoder, in rows."""
    parts = [layer.partition(".")[0] for layer in layers]
    return [row + 0.5 for row, (one, next_) in enumerate(pairwise(parts)) if one != next_]


def _log_norm(values: Matrix) -> LogNorm:
    """A logarithmic scale over the positive values."""
    positive = values[values > 0]
    if not len(positive):
        return LogNorm(0.1, 1)
    low, high = float(positive.min()), float(positive.max())
    return LogNorm(low, high) if high > low else LogNorm(low / 2, high * 2)


def _color_bar(figure: Figure, places: Sequence[Axes], colors: ScalarMappable, label: str) -> None:
    bar = figure.colorbar(colors, ax=places, label=label, pad=0.015)
    style.log_ticks(bar.ax.yaxis, (1, 3))
    bar.outline.set_visible(False)
