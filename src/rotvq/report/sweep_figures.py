"""Plots of a sweep: each metric over each parameter, and curves. Pure: records to PNG bytes."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from rotvq.report import style
from rotvq.report.figures import PANELS, PRIOR_PANELS, draw_panel
from rotvq.report.metrics import METRICS
from rotvq.run_record import RunRecord

MOST_PARAMETERS = 5
"""Columns of plots, at most."""
_PLOTTED = {
    "PSNR of the mean MSE (dB)": "PSNR (dB)",
    "SSIM": "SSIM",
    "Usage, codes used / K": "usage of the codes",
    "Bits per token under the prior": "bits per token",
}
# As in the rows of reconstructions: best, middle, worst.
_BEST, _WORST = style.color(0), style.color(2)
_DOTS, _OTHERS = style.REFERENCE, "#bcbcbc"


def over_parameters(
    runs: Sequence[RunRecord], parameters: Sequence[tuple[str, Sequence[str]]]
) -> bytes | None:
    """A row of plots for each metric with a column for each parameter, as PNG.

    Args:
        runs: best first.
        parameters: the name of each, and its value in each run, as written in YAML.

    Returns:
        None where there is nothing to draw.
    """
    plotted = {_PLOTTED[metric.name]: metric for metric in METRICS if metric.name in _PLOTTED}
    values = {
        name: [_finite(metric.value(run)) for run in runs] for name, metric in plotted.items()
    }
    rows = {name: found for name, found in values.items() if not all(map(math.isnan, found))}
    if not rows or not parameters:
        return None
    with style.look():
        shape = len(rows), len(parameters[:MOST_PARAMETERS])
        figure = Figure(figsize=(style.WIDTH, 0.4 + 1.9 * shape[0]), layout="constrained")
        places = figure.subplots(*shape, squeeze=False, sharey="row", sharex="col")
        for line, (metric, found) in zip(places, rows.items(), strict=True):
            line[0].set_ylabel(metric)
            for axes, (_, texts) in zip(line, parameters, strict=False):
                _draw(axes, texts, found)
        for axes, (name, _) in zip(places[-1], parameters, strict=False):
            axes.set_xlabel(style.plain(style.shorten(name, 30)))
        return style.png(figure)


class Places(NamedTuple):
    """Where values lie on an axis, its ticks, and whether it is one of numbers, logarithmic."""

    at: list[float]
    ticks: Mapping[float, str]
    numeric: bool = False
    logarithmic: bool = False


def positions(texts: Sequence[str]) -> Places:
    """The places of values, as written in YAML.

    Numbers lie at their values, words side by side in the order in which they occur.
    """
    numbers = [_number(text) for text in texts]
    if not any(map(math.isnan, numbers)):
        ordered = sorted(set(numbers))
        logarithmic = ordered[0] > 0 and ordered[-1] >= 4 * ordered[0]
        return Places(numbers, {value: f"{value:g}" for value in ordered}, True, logarithmic)
    words = list(dict.fromkeys(texts))
    at = [float(words.index(text)) for text in texts]
    return Places(at, {float(n): style.shorten(word, 18) for n, word in enumerate(words)})


def _draw(axes: Axes, texts: Sequence[str], values: Sequence[float]) -> None:
    at, ticks, numeric, logarithmic = positions(texts)
    if logarithmic:
        axes.set_xscale("log")
    groups = {x: [v for a, v in zip(at, values, strict=True) if a == x] for x in ticks}
    means = {x: fmean(found) for x, some in groups.items() if (found := _all_finite(some))}
    line = {"linewidth": 1} if numeric else {"linestyle": "none", "marker": "_", "markersize": 16}
    axes.plot(list(means), list(means.values()), color=_DOTS, alpha=0.7, **line)
    axes.plot(at, values, "o", color=_DOTS, alpha=0.5, markersize=4)
    axes.plot(at[:1], values[:1], "o", color=_BEST, markersize=6)
    shown = list(ticks)[:: -(-len(ticks) // 6)]
    labels = [style.plain(ticks[x]) for x in shown]
    slanted = any(len(text) > 8 for text in labels) or len(labels) > 4
    axes.set_xticks(shown, labels, fontsize=8)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=25, ha="right")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.12)


def curves(runs: Sequence[RunRecord]) -> bytes:
    """The curves of all runs in gray but for the first, which is the best, and the last."""
    panels = PRIOR_PANELS if runs[0].is_prior else PANELS[:4]
    colors = [_OTHERS] * (len(runs) - 2)
    with style.look():
        rows = -(-len(panels) // 2)
        figure = Figure(figsize=(style.WIDTH, 2.9 * rows), layout="constrained")
        grid = figure.subplots(rows, min(2, len(panels)), squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=True):
            # The best is drawn last, above the others.
            draw_panel(axes, panel._replace(train=False), runs[::-1], [_WORST, *colors, _BEST])
        handles = [Line2D([], [], color=color) for color in (_BEST, _WORST, _OTHERS)]
        names = [style.shorten(run.label, 40) for run in (runs[0], runs[-1])]
        labels = [f"best: {names[0]}", f"worst: {names[1]}", "the others"]
        style.legend(figure, handles, labels)
        return style.png(figure)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if abs(value) < 1e30 else math.nan


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) and abs(value) < 1e30 else math.nan


def _all_finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
