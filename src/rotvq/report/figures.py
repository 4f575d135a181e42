"""Plots: curves over epochs, and the usage of the codes. Pure: records to PNG bytes."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rotvq.guarded import LARGEST_NUMBER
from rotvq.report import style
from rotvq.run_record import RunRecord

LEGEND_LENGTH = 48  # characters


class Panel(NamedTuple):
    """A metric over epochs, or over training time: one curve per run."""

    title: str
    unit: str
    metric: str
    log: bool = False
    train: bool = False  # draw the training split too, dashed
    factor: float = 1.0
    limits: tuple[float | None, float | None] = (None, None)
    over_time: bool = False


PANELS = (
    Panel("Reconstruction loss", "mean squared error", "reconstruction_loss", log=True, train=True),
    Panel(
        "Reconstruction loss over time (test)",
        "mean squared error",
        "reconstruction_loss",
        log=True,
        over_time=True,
    ),
    Panel("Perplexity (test)", "codes", "perplexity", limits=(0, None)),
    Panel("Codebook usage (test)", "% of codes", "usage", factor=100, limits=(0, 104)),
    Panel("Commitment loss (test)", "mean squared distance", "commitment_loss", log=True),
    Panel(
        "Quantization error (test)", "fraction of the variance of z_e", "relative_error", log=True
    ),
)

PRIOR_PANELS = (Panel("Code length", "bits per token", "bits_per_token", train=True),)


def panels(runs: Sequence[RunRecord]) -> tuple[Panel, ...]:
    """The panels of runs of one kind."""
    return PRIOR_PANELS if runs[0].is_prior else PANELS


def curves(runs: Sequence[RunRecord]) -> bytes:
    """Panels over epochs or training time, one color per run, as PNG."""
    shown = panels(runs)
    rows = min(2, len(shown))
    with style.look():
        layout = ConstrainedLayoutEngine(wspace=0.04, hspace=0.06)
        figure = Figure(figsize=(style.WIDTH, 2.9 * rows + 0.1 * len(runs)), layout=layout)
        grid = figure.subplots(rows, len(shown) // rows, squeeze=False)
        for axes, panel in zip(grid.flat, shown, strict=True):
            draw_panel(axes, panel, runs)
        handles, labels = _curve_legend(runs)
        style.legend(figure, handles, labels)
        return style.png(figure)


def usage(runs: Sequence[RunRecord]) -> bytes:
    """Codes sorted by their share of the tokens, and the uniform share, as PNG.

    A bar below the curves spans the ranks of each run's dead codes. At least one run must have been
    evaluated with counts.
    """
    evaluated = [(n, run) for n, run in enumerate(runs) if run.counts]
    shares = [np.sort(run.counts)[::-1] / sum(run.counts) for _, run in evaluated]
    sizes = sorted({len(share) for share in shares})
    positive = np.concatenate([s[s > 0] for s in shares] + [1 / np.array(sizes)])
    low, high = positive.min() / 2, positive.max() * 2
    step = (high / low) ** 0.035  # a track for each run's dead codes, below the curves
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 3.8 + 0.2 * len(shares)), layout="constrained")
        axes = figure.subplots()
        for size in sizes:
            axes.plot([0, size], [1 / size] * 2, "--", color=style.REFERENCE, linewidth=1)
            axes.annotate(
                f"uniform, 1/{size}", (size, 1 / size), (0, 4), textcoords="offset points",
                ha="right", color=style.REFERENCE, fontsize=8,
            )  # fmt: skip
        handles, labels = [], []
        for track, ((n, run), share) in enumerate(zip(evaluated, shares, strict=True)):
            size, used = len(share), int((share > 0).sum())
            edges = np.arange(used + 1)
            handles.append(axes.stairs(share[:used], edges, baseline=low, color=style.color(n)))
            if len(shares) == 1:
                axes.stairs(
                    share[:used], edges, baseline=low, fill=True, color=style.color(n), alpha=0.25
                )
            y = low / step ** (track + 1)
            axes.plot(
                [used, size], [y, y], color=style.color(n), linewidth=4, solid_capstyle="butt"
            )
            dead = f"{size - used} of {size} codes dead ({100 * (1 - used / size):.1f} %)"
            labels.append(f"{style.shorten(run.label, LEGEND_LENGTH)}: {dead}")
        axes.set_yscale("log")
        axes.set_ylim(low / step ** (len(shares) + 1), high)
        axes.set_xlim(0, max(sizes) * 1.01)
        axes.set_xlabel("codes, most used first (bars below the curves: dead codes)")
        axes.set_ylabel("share of the tokens of the split")
        style.legend(figure, handles, labels)
        return style.png(figure)


def cluster_sizes(run: RunRecord) -> bytes | None:
    """Quantiles of the cluster sizes and dead codes over the epochs, as PNG.

    None where fewer than two epochs have them recorded.
    """
    known = [(e.number, e.codebook) for e in run.epochs if _is_health(e.codebook)]
    if len(known) < 2:
        return None
    numbers = [number for number, _ in known]
    _, low, quarter, median, upper, high, _ = np.array([seen["spread"] for _, seen in known]).T
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 3.2), layout="constrained")
        sizes, dead = figure.subplots(1, 2)
        for bottom, top, alpha in ((low, high, 0.2), (quarter, upper, 0.35)):
            sizes.fill_between(numbers, bottom, top, color=style.color(0), alpha=alpha, linewidth=0)
        sizes.plot(numbers, median, color=style.color(0))
        sizes.set_title("Cluster sizes (training)")
        sizes.set_ylabel("fraction of the mean")
        sizes.set_ylim(bottom=0)
        dead.plot(numbers, [seen["dead"] for _, seen in known], color=style.color(0))
        dead.set_title("Dead codes (training)")
        dead.set_ylabel("codes")
        dead.set_ylim(0, max(1.05 * max(seen["dead"] for _, seen in known), 1))
        for axes in (sizes, dead):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        dead.yaxis.set_major_locator(MaxNLocator(integer=True))
        return style.png(figure)


def _is_health(codebook: Mapping[str, Any]) -> bool:
    """Whether the record of a codebook holds the seven quantiles and the dead codes, all sane."""
    spread = codebook.get("spread")
    if not isinstance(spread, list) or len(spread) != 7:
        return False
    values = [*spread, codebook.get("dead")]
    return all(isinstance(v, int | float) and 0 <= v <= LARGEST_NUMBER for v in values)


def draw_panel(
    axes: Axes, panel: Panel, runs: Sequence[RunRecord], colors: Sequence[str] = ()
) -> None:
    """One curve per run, each in its color or the one given: test solid, training dashed."""
    drawn = False
    for n, run in enumerate(runs):
        color, marker = (colors[n], "None") if colors else (style.color(n), style.marker(n))
        at = _minutes(run) if panel.over_time else [float(e.number) for e in run.epochs]
        places = list(zip(at, run.epochs, strict=True))
        # Not every epoch has a test pass.
        splits = [
            [(x, e.test) for x, e in places if e.test],
            *([[(x, e.train) for x, e in places]] * panel.train),
        ]
        for measured, line in zip(splits, ("-", "--"), strict=False):
            values = [_drawable(metrics.get(panel.metric), panel) for _, metrics in measured]
            drawn |= not all(math.isnan(value) for value in values)
            mark = marker if len(values) > 1 else "o"
            axes.plot([x for x, _ in measured], values, line, color=color, marker=mark)
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    axes.set_xlabel("minutes of training" if panel.over_time else "epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=not panel.over_time))
    if not drawn:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    if panel.log:
        axes.set_yscale("log")
        style.log_ticks(axes.yaxis)
    axes.set_ylim(*panel.limits)


def _minutes(run: RunRecord) -> list[float]:
    """Training time at the end of each epoch; nan from the first epoch that has none recorded."""
    seconds = (epoch.timing.get("train_seconds", math.nan) for epoch in run.epochs)
    return [total / 60 for total in accumulate(seconds)]


def _drawable(value: float | None, panel: Panel) -> float:
    """The value in the panel's unit; nan where its axis cannot show it."""
    if value is None or not math.isfinite(value) or (panel.log and value <= 0):
        return math.nan
    return value * panel.factor


def _curve_legend(runs: Sequence[RunRecord]) -> tuple[list[Line2D], list[str]]:
    handles = [
        Line2D([], [], color=style.color(n), marker=style.marker(n)) for n in range(len(runs))
    ]
    labels = [style.shorten(run.label, LEGEND_LENGTH) for run in runs]
    handles += [Line2D([], [], color="black", linestyle=line) for line in ("-", "--")]
    return handles, [*labels, "test", "train"]
