"""Plots of the numbers: training, size of the codebook, weight of the commitment loss.

Pure: results to PNG bytes. The paper's numbers are grey and hollow, as they are not of discrete
codes. Where a variant was trained at several seeds, the mean is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from rotvq.report import style
from rotvq.report.figures import Panel, draw_panel
from rotvq.studies.paper.paper import Losses
from rotvq.studies.paper.results import Result, Results
from rotvq.studies.paper.studies import BETAS, SIZES

Looks = Mapping[str, Any]
Runs = Mapping[float, Sequence[Result]]
Points = Mapping[float, float]

TEST: Looks = {"color": style.colour(0), "linestyle": "-", "marker": "o"}
TRAIN: Looks = {"color": style.colour(0), "linestyle": "--", "marker": "o"}
BATCHES: Looks = {"color": style.colour(1), "linestyle": ":", "marker": "^"}
PAPER: Looks = {
    "color": style.REFERENCE,
    "linestyle": "",
    "marker": "o",
    "markerfacecolor": "none",
    "markersize": 6.5,
    "markeredgewidth": 1.3,
    "clip_on": False,
}
PAPER_TEST: Looks = {**PAPER, "marker": "s"}
LEGEND: Mapping[str, Looks] = {
    "test": TEST,
    "train": TRAIN,
    "train, batch mean": BATCHES,
    "paper (leaks norms)": PAPER,
    "paper, train (leaks norms)": PAPER,
    "paper, test (leaks norms)": PAPER_TEST,
    "all codes used equally": {"color": style.REFERENCE, "linewidth": 1, "linestyle": "-."},
}

TRAINING = (
    Panel("Total loss", "weighted sum", "loss", log=True, train=True),
    Panel("Reconstruction loss", "mean squared error", "reconstruction_loss", log=True, train=True),
    Panel("Codebook loss", "mean squared distance", "codebook_loss", log=True, train=True),
    Panel("Perplexity", "codes", "perplexity", train=True, limits=(0, None)),
    Panel("Codebook usage", "% of the codes", "usage", train=True, factor=100, limits=(0, 104)),
)


class Plot(NamedTuple):
    """A panel of a study: its lines by their names in the legend, from variant to value."""

    title: str
    unit: str
    lines: Mapping[str, Points]


def training_curves(result: Result) -> bytes:
    """A run epoch by epoch: losses, perplexity and usage, train dashed and test solid."""
    epochs = result.record.epochs
    with style.look():
        layout = ConstrainedLayoutEngine(wspace=0.04, hspace=0.06)
        figure = Figure(figsize=(style.WIDTH, 5.4), layout=layout)
        *places, corner = figure.subplots(2, 3).flat
        for axes, panel in zip(places, TRAINING, strict=True):
            draw_panel(axes, panel, [result.record])
        batches = [epoch.train.get("batch_perplexity", math.nan) for epoch in epochs]
        mark = "" if len(epochs) > 1 else BATCHES["marker"]
        places[3].plot([e.number for e in epochs], batches, **{**BATCHES, "marker": mark})
        corner.axis("off")
        labels = ("test", "train", "train, batch mean")
        handles = [Line2D([], [], **{**LEGEND[label], "marker": ""}) for label in labels]
        corner.legend(handles, labels, loc="center left")
        return style.png(figure)


def codebook_sizes(results: Results, paper: Mapping[int, Losses]) -> bytes:
    """Table 2: reconstruction loss, perplexity and usage over the size K of the codebook.

    Args:
        results: with runs of the study table2.
        paper: the paper's training metrics by K.
    """
    runs: Runs = {k: results.of("table2", f"k_{k}") for k in SIZES}
    plots = (
        Plot(
            "Reconstruction loss (train)",
            "mean squared error",
            {
                "train": _trained(runs, "reconstruction_loss"),
                "paper (leaks norms)": _printed(paper.items(), "reconstruction_loss"),
            },
        ),
        Plot(
            "Perplexity (train)",
            "codes",
            {
                "all codes used equally": {k: k for k in SIZES},
                "train": _trained(runs, "perplexity"),
                "train, batch mean": _trained(runs, "batch_perplexity"),
                "paper (leaks norms)": _printed(paper.items(), "perplexity"),
            },
        ),
        Plot(
            "Codebook usage (test)",
            "% of the codes",
            {"test": _means(runs, lambda r: 100 * r.metric("usage"))},
        ),
    )
    with style.look():
        figure, (loss, perplexity, usage) = _figure(plots, "codebook size K", tuple(SIZES))
        loss.set_ylim(bottom=0)
        usage.set_ylim(0, 104)
        perplexity.set_yscale("log", base=2)
        perplexity.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        return style.png(figure)


def commitment_weights(results: Results, paper: Mapping[float, Mapping[str, Losses]]) -> bytes:
    """Table 3: reconstruction loss, codebook loss and perplexity over the weight β.

    Args:
        results: with runs of the study table3.
        paper: the paper's metrics by β and split ("train", "test").
    """
    runs: Runs = {beta: results.of("table3", f"beta_{beta}") for beta in BETAS}

    def lines(metric: str) -> Mapping[str, Points]:
        printed = {
            split: _printed(((beta, row[split]) for beta, row in paper.items()), metric)
            for split in ("train", "test")
        }
        return {
            "test": _means(runs, lambda r: r.record.epochs[-1].test.get(metric, math.nan)),
            "train": _trained(runs, metric),
            "paper, test (leaks norms)": printed["test"],
            "paper, train (leaks norms)": printed["train"],
        }

    plots = (
        Plot("Reconstruction loss", "mean squared error", lines("reconstruction_loss")),
        Plot("Codebook loss", "mean squared distance", lines("codebook_loss")),
        Plot("Perplexity", "codes", lines("perplexity")),
    )
    with style.look():
        figure, (loss, codebook, perplexity) = _figure(plots, "commitment weight β", BETAS)
        loss.set_ylim(bottom=0)
        perplexity.set_ylim(bottom=0)
        codebook.set_yscale("log")
        style.log_ticks(codebook.yaxis)
        return style.png(figure)


def _figure(
    plots: Sequence[Plot], label: str, ticks: Sequence[float]
) -> tuple[Figure, Sequence[Axes]]:
    """The panels side by side, over a logarithmic axis with the variants as its ticks."""
    layout = ConstrainedLayoutEngine(wspace=0.04)
    figure = Figure(figsize=(style.WIDTH, 3.7), layout=layout)
    places = figure.subplots(1, len(plots))
    room = (ticks[-1] / ticks[0]) ** 0.06
    for axes, plot in zip(places, plots, strict=True):
        for name, points in plot.lines.items():
            axes.plot(list(points), list(points.values()), **LEGEND[name])
        axes.set_title(plot.title)
        axes.set_ylabel(plot.unit)
        axes.set_xlabel(label)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(ticks[0] / room, ticks[-1] * room)
    drawn = {name for plot in plots for name, points in plot.lines.items() if points}
    names = [name for name in LEGEND if name in drawn]
    style.legend(figure, [Line2D([], [], **LEGEND[name]) for name in names], names)
    return figure, places


def _trained(runs: Runs, metric: str) -> Points:
    return _means(runs, lambda r: r.train(metric))


def _means(runs: Runs, value: Callable[[Result], float]) -> Points:
    """The mean over seeds for each variant that has a finite value."""
    values = {at: [v for r in found if math.isfinite(v := value(r))] for at, found in runs.items()}
    return {at: fmean(finite) for at, finite in values.items() if finite}


def _printed(paper: Iterable[tuple[float, Losses]], metric: str) -> Points:
    return {at: losses[metric] for at, losses in paper}
