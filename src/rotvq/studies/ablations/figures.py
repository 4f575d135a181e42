"""Plots of our own studies. Pure: results to PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rotvq.report import style
from rotvq.studies.ablations.tables import bound, rows_of, validation
from rotvq.studies.paper.results import Result, Results

Rows = Mapping[str, Sequence[Result]]
Value = Callable[[Result], float]
Looks = Mapping[str, Any]

PANELS: tuple[tuple[str, str, Value], ...] = (
    ("MSE ↓", "mean squared error, validation", validation),
    ("SSIM ↑", "structural similarity, test split", lambda r: r.metric("ssim")),
    ("Perplexity ↑", "codes, test split", lambda r: r.metric("perplexity")),
)
BOUND: Looks = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1.2}


def rungs(rows: Rows, without: Sequence[Result] = ()) -> bytes:
    """Three metrics of every row: a large mark the mean, faint dots the seeds.

    Args:
        rows: runs by label, the first on top.
        without: runs whose mean is drawn as a dashed line through all rows.
    """
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 1.1 + 0.3 * len(rows)), layout="constrained")
        places = figure.subplots(1, 3, sharey=True)
        for axes, (title, unit, value) in zip(places, PANELS, strict=True):
            for place, runs in enumerate(rows.values()):
                _mark(axes, place, [value(r) for r in runs])
            if without:
                axes.axvline(fmean(value(r) for r in without), **BOUND)
            axes.set_title(title)
            axes.set_xlabel(unit)
            axes.set_yticks(range(len(rows)), list(rows))
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return style.png(figure)


def codebooks(results: Results) -> bytes:
    """Error and usage over the size of the codebook, beside the Gaussian bound."""
    rows = rows_of(results, "codebooks").values()
    sizes = [runs[0].run.config.quantizer.codebook_size for runs in rows]
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
        error, use = figure.subplots(1, 2)
        error.plot(sizes, [bound(runs[0]) for runs in rows], **BOUND)
        for axes, value in ((error, _mse), (use, _percent_used)):
            means = [fmean(map(value, runs)) for runs in rows]
            axes.plot(sizes, means, "o-", color=style.colour(0))
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [f"{k:,}" for k in sizes])
            axes.minorticks_off()
            axes.set_xlabel("codebook size K")
        error.set_title("MSE ↓")
        error.set_ylabel("mean squared error, test split")
        error.set_ylim(bottom=0)
        use.set_title("Codebook usage ↑")
        use.set_ylabel("% of the codes, test split")
        use.set_ylim(0, 104)
        handles = [Line2D([], [], color=style.colour(0), marker="o"), Line2D([], [], **BOUND)]
        style.legend(figure, handles, ["measured", "bound of a Gaussian source at the same bits"])
        return style.png(figure)


def _mark(axes: Axes, place: int, values: Sequence[float]) -> None:
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return
    if len(finite) > 1:
        faint: Looks = {"color": style.colour(0), "alpha": 0.35, "markersize": 3.5}
        axes.plot(finite, [place] * len(finite), "o", **faint)
    axes.plot([fmean(finite)], [place], "o", color=style.colour(0), markersize=6.5)


def _mse(result: Result) -> float:
    return result.metric("mse")


def _percent_used(result: Result) -> float:
    return 100 * result.metric("usage")
