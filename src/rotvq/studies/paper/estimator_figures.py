"""Plots of the estimators' study: every metric, and the leak of the released transform."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rotvq.report import style
from rotvq.studies.paper.results import Result, Results
from rotvq.studies.paper.studies import ESTIMATORS
from rotvq.studies.paper.tables import ratio

Values = Sequence[float]

LARGE, SMALL = 6.5, 3.5  # marks, in points


def _look(colour: int, *, filled: bool) -> Mapping[str, Any]:
    """Of a large mark: a filled circle, or a hollow diamond."""
    hollow = {"marker": "D", "markerfacecolor": "white", "markeredgewidth": 1.5}
    return {
        "color": style.colour(colour),
        "linestyle": "",
        "markersize": LARGE,
        **({"marker": "o"} if filled else hollow),
    }


RESTARTS = {"": _look(0, filled=True), "_restart": _look(1, filled=False)}
"""Looks by the suffix of a variant's name."""
REFERENCE: Mapping[str, Any] = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1}
FORWARD, DECODED = _look(4, filled=False), _look(2, filled=True)
APART = 0.17
"""Half the distance of an estimator's two marks; its row is 1 high."""


class Dots(NamedTuple):
    """A panel: a metric of every estimator."""

    title: str
    unit: str
    value: Callable[[Result], float]
    log: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    reference: Callable[[Result], float] | None = None  # a dashed line, the same for all


METRICS = (
    Dots("MSE ↓", "mean squared error", lambda r: r.metric("mse")),
    Dots("SSIM ↑", "structural similarity", lambda r: r.metric("ssim")),
    Dots("Perplexity ↑", "codes", lambda r: r.metric("perplexity"), limits=(0, None)),
    Dots(
        "Codebook usage ↑",
        "% of the codes",
        lambda r: 100 * r.metric("usage"),
        limits=(0, 104),
    ),
    Dots(
        "Commitment loss",
        "mean squared distance",
        lambda r: r.metric("commitment_loss"),
        log=True,
    ),
    Dots(
        "Classifier's accuracy ↑",
        "% of the test images",
        lambda r: 100 * r.yardstick("accuracy_reconstruction"),
        reference=lambda r: 100 * r.yardstick("accuracy_original"),
    ),
    Dots(
        "Fréchet distance ↓",
        "squared distance of features",
        lambda r: r.yardstick("frechet_distance"),
    ),
)


def estimators(results: Results) -> bytes:
    """Every metric of the test split by estimator, without and with restart of dead codes.

    A large mark is the mean over the seeds, a faint dot a seed, a bar their range. Metrics
    without a finite value are left out, and estimators without a run.
    """
    runs = results.of("estimators")
    panels = [p for p in METRICS if any(math.isfinite(p.value(r)) for r in runs)]
    names = [n for n in ESTIMATORS if any(results.of("estimators", n + s) for s in RESTARTS)]
    columns = len(panels) // 2 + 1  # two rows, with at least one place left for the legend
    with style.look():
        layout = ConstrainedLayoutEngine(hspace=0.06)
        figure = Figure(figsize=(style.WIDTH, 2.1 + 0.78 * len(names)), layout=layout)
        places = list(figure.subplots(2, columns, sharey=True, squeeze=False).flat)
        for axes, panel in zip(places, panels, strict=False):
            _metric(axes, panel, results, names)
        for axes in places[len(panels) :]:
            axes.axis("off")
        _legend(places[len(panels)], runs)
        return style.png(figure)


def leak(results: Results) -> bytes:
    """The reflection's forward pass beside its decoded indices, and the rotation for reference.

    At the end of each row stands how many times the forward pass's error the indices' is; for a
    discrete estimator the two are one. Marks as in `estimators`.
    """
    names = [n + suffix for n in ("reflection", "rotation") for suffix in RESTARTS]
    rows = [found for name in names if (found := results.of("estimators", name))]
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 1.4 + 0.45 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for row, runs in enumerate(rows):
            forward = _finite(runs, lambda r: r.metric("forward_mse"))
            decoded = _finite(runs, lambda r: r.metric("mse"))
            _marks(axes, row - APART, forward, FORWARD)
            _marks(axes, row + APART, decoded, DECODED)
            if forward and decoded:
                times = ratio(fmean(decoded), fmean(forward))
                axes.annotate(
                    f"× {times:.2f}", (max(*forward, *decoded), row),
                    (12, 0), textcoords="offset points", va="center",
                )  # fmt: skip
        if not rows:
            axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center")
            axes.set_xticks([])
        _rows(axes, [runs[0].run.variant.label for runs in rows])
        axes.set_xlabel("mean squared error on the test split (×: decoded / forward)")
        axes.margins(x=0.09)
        labels = ["forward pass", "decoded from the indices"]
        style.legend(figure, [Line2D([], [], **look) for look in (FORWARD, DECODED)], labels)
        return style.png(figure)


def _finite(runs: Sequence[Result], value: Callable[[Result], float]) -> Values:
    return [v for r in runs if math.isfinite(v := value(r))]


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """A row for each label, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _metric(axes: Axes, panel: Dots, results: Results, names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        for suffix, look in RESTARTS.items():
            values = _finite(results.of("estimators", name + suffix), panel.value)
            _marks(axes, row + (APART if suffix else -APART), values, look)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.unit)
    _rows(axes, [_lines(ESTIMATORS[name]) for name in names])
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
    if panel.log:
        axes.set_xscale("log")
        style.log_ticks(axes.xaxis, (1, 3))
    if panel.reference:
        for value in _finite(results.of("estimators"), panel.reference)[:1]:
            axes.axvline(value, **REFERENCE)
    axes.set_xlim(*panel.limits)  # last: it ends the automatic choice of limits


def _marks(axes: Axes, y: float, values: Values, look: Mapping[str, Any]) -> None:
    """The mean large, each seed faint, their range a bar."""
    if not values:
        return
    if len(values) > 1:
        axes.plot([min(values), max(values)], [y, y], color=look["color"], linewidth=1.2)
        axes.plot(values, [y] * len(values), "o", color=look["color"], alpha=0.35, markersize=SMALL)
    axes.plot([fmean(values)], [y], **look)


def _legend(axes: Axes, runs: Sequence[Result]) -> None:
    entries = {
        "without restart": Line2D([], [], **RESTARTS[""]),
        "restart of dead codes": Line2D([], [], **RESTARTS["_restart"]),
    }
    if len(runs) > len({r.run.variant.name for r in runs}):
        seeds = Line2D([], [], color=style.REFERENCE, marker="o", markersize=SMALL, linewidth=1.2)
        entries["each seed, their range"] = seeds
    if any(math.isfinite(r.yardstick("accuracy_original")) for r in runs):
        entries["on the original images"] = Line2D([], [], **REFERENCE)
    axes.legend(list(entries.values()), list(entries), loc="center left")


def _lines(label: str) -> str:
    """A label broken where it is longer than its column."""
    return textwrap.fill(label, 16)
