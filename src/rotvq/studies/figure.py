"""Plots of many runs: rows of dots, and lines over a variable. Drawn into matplotlib axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from rotvq.report import style
from rotvq.report.page import Picture
from rotvq.studies.results import Result

Look = Mapping[str, Any]
Value = Callable[[Result], float]
Points = Mapping[float, float]

LARGE, SMALL = 6.5, 3.5  # marker sizes in points
REFERENCE: Look = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1}
_APART = 0.17
"""Half the distance between two marks of a row, which is 1 high."""


def filled(color: int) -> Look:
    """A large filled circle."""
    return {"color": style.color(color), "linestyle": "", "markersize": LARGE, "marker": "o"}


def hollow(color: int) -> Look:
    """A large hollow diamond."""
    face = {"markerfacecolor": "white", "markeredgewidth": 1.5}
    return {**filled(color), "marker": "D", **face}


class Panel(NamedTuple):
    """A metric of every row; `reference` is drawn as a dashed line, taken from one run."""

    title: str
    unit: str
    value: Value
    log: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    reference: Value | None = None


class Group(NamedTuple):
    """Runs that share a mark."""

    values: Sequence[float]
    look: Look


def draw_rows(axes: Axes, rows: Mapping[str, Sequence[Group]]) -> None:
    """A labeled row of marks per entry, the first on top: the mean large, each seed faint.

    A bar shows the range of the seeds.
    """
    for row, groups in enumerate(rows.values()):
        for place, group in enumerate(groups):
            _mark(axes, row + _APART * (2 * place - len(groups) + 1), group)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def draw_panel(
    axes: Axes,
    panel: Panel,
    rows: Mapping[str, Sequence[tuple[Sequence[Result], Look]]],
    reference: float = math.nan,
) -> None:
    """A metric of every row, with a dashed line at the reference unless that is nan."""
    groups = {
        label: [Group(finite(panel.value(r) for r in runs), look) for runs, look in pairs]
        for label, pairs in rows.items()
    }
    draw_rows(axes, groups)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
    if panel.log:
        axes.set_xscale("log")
        style.log_ticks(axes.xaxis, (1, 3))
    if not math.isnan(reference):
        axes.axvline(reference, **REFERENCE)
    axes.set_xlim(*panel.limits)  # last, as it ends the automatic choice of limits


class Plot(NamedTuple):
    """A panel of lines by their names in the legend, each from variable to value."""

    title: str
    unit: str
    lines: Mapping[str, Points]


def line_plots(
    plots: Sequence[Plot], looks: Mapping[str, Look], label: str, ticks: Sequence[float]
) -> tuple[Figure, Sequence[Axes]]:
    """Panels side by side over a logarithmic axis.

    Args:
        plots: the panels.
        looks: of the lines by name, in the order of the legend.
        label: of the variable.
        ticks: values of the variable, in increasing order.
    """
    figure = Figure(figsize=(style.WIDTH, 3.7), layout=ConstrainedLayoutEngine(wspace=0.04))
    places = figure.subplots(1, len(plots))
    room = (ticks[-1] / ticks[0]) ** 0.06
    for axes, plot in zip(places, plots, strict=True):
        for name, points in plot.lines.items():
            axes.plot(list(points), list(points.values()), **looks[name])
        axes.set_title(plot.title)
        axes.set_ylabel(plot.unit)
        axes.set_xlabel(label)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(ticks[0] / room, ticks[-1] * room)
    drawn = {name for plot in plots for name, points in plot.lines.items() if points}
    names = [name for name in looks if name in drawn]
    style.legend(figure, [Line2D([], [], **looks[name]) for name in names], names)
    return figure, places


def means(runs: Mapping[float, Sequence[Result]], value: Value) -> Points:
    """The mean over seeds for each variant that has a finite value."""
    values = {at: finite(map(value, found)) for at, found in runs.items()}
    return {at: fmean(numbers) for at, numbers in values.items() if numbers}


def finite(values: Iterable[float]) -> list[float]:
    """The finite ones of some values."""
    return [value for value in values if math.isfinite(value)]


def plot(name: str, png: bytes, alt: str, caption: str) -> Picture:
    """A plot as wide as the page."""
    return Picture(f"{name}.png", png, style.WIDTH * style.PAGE_DPI, alt, caption, True)


def _mark(axes: Axes, y: float, group: Group) -> None:
    values, look = group
    if not values:
        return
    if len(values) > 1:
        axes.plot([min(values), max(values)], [y, y], color=look["color"], linewidth=1.2)
        axes.plot(values, [y] * len(values), "o", color=look["color"], alpha=0.35, markersize=SMALL)
    axes.plot([fmean(values)], [y], **look)
