"""Figures of the paper's studies, with alternative text and captions. Pure: results to pictures.

The paper's own numbers are gray and hollow, as they are not of discrete codes. Where a variant was
trained with several seeds, the mean is drawn.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from rotvq.report import style
from rotvq.report.page import Picture
from rotvq.studies import run_figures
from rotvq.studies.figure import (
    REFERENCE,
    SMALL,
    Group,
    Look,
    Panel,
    Plot,
    Points,
    draw_panel,
    draw_rows,
    filled,
    finite,
    hollow,
    line_plots,
    means,
    plot,
)
from rotvq.studies.page import Opening
from rotvq.studies.paper import tables
from rotvq.studies.paper.studies import BETAS, ESTIMATORS, RESTARTS, SIZES, TABLE2, TABLE3, Losses
from rotvq.studies.results import Result, Results
from rotvq.studies.table import ratio

Runs = Mapping[float, Sequence[Result]]

_PAPER: Look = {
    "color": style.REFERENCE,
    "linestyle": "",
    "marker": "o",
    "markerfacecolor": "none",
    "markersize": 6.5,
    "markeredgewidth": 1.3,
    "clip_on": False,
}
_LOOKS: Mapping[str, Look] = {
    "test": {"color": style.color(0), "linestyle": "-", "marker": "o"},
    "train": {"color": style.color(0), "linestyle": "--", "marker": "o"},
    "train, batch mean": run_figures.BATCHES,
    "paper (leaks norms)": _PAPER,
    "paper, train (leaks norms)": _PAPER,
    "paper, test (leaks norms)": {**_PAPER, "marker": "s"},
    "all codes used equally": {"color": style.REFERENCE, "linewidth": 1, "linestyle": "-."},
}
_RESTARTS: Mapping[str, Look] = dict(zip(RESTARTS, (filled(0), hollow(1)), strict=True))
_FORWARD, _DECODED = hollow(4), filled(2)

_METRICS = (
    Panel("MSE ↓", "mean squared error", lambda r: r.metric("mse")),
    Panel("SSIM ↑", "structural similarity", lambda r: r.metric("ssim")),
    Panel("Perplexity ↑", "codes", lambda r: r.metric("perplexity"), limits=(0, None)),
    Panel("Codebook usage ↑", "% of codes", lambda r: 100 * r.metric("usage"), limits=(0, 104)),
    Panel(
        "Commitment loss", "mean squared distance", lambda r: r.metric("commitment_loss"), log=True
    ),
    Panel(
        "Classifier accuracy ↑",
        "% of test images",
        lambda r: 100 * r.classifier_metric("accuracy_reconstruction"),
        reference=lambda r: 100 * r.classifier_metric("accuracy_original"),
    ),
    Panel(
        "Fréchet distance ↓",
        "squared distance of features",
        lambda r: r.classifier_metric("frechet_distance"),
    ),
)


def figures(study: str, results: Results) -> tuple[Picture, ...]:
    """The figures of a study that has a finished run, in order."""
    first = results.of(study)[0]
    match study:
        case "training":
            return (run_figures.curves("training", first),)
        case "table2":
            return (codebook_sizes(results),)
        case "table3":
            return (commitment_weights(results),)
        case "figures":
            return (
                run_figures.reconstructions("figures-1-5", first),
                run_figures.codebook_maps("figures-6-8", first),
                run_figures.gradient_flow("gradient-flow", first),
            )
        case "final":
            return (
                run_figures.curves("final", first),
                run_figures.reconstructions("final-reconstructions", first),
            )
    leaks = [leak(results)] if tables.leak(results).rows else []
    return (estimators(results), *leaks)


def opening(results: Results) -> Opening:
    """The page opens with the paper's figures and tables beside ours."""
    first = ("figures-1-5", "figures-6-8", "table2", "table3", "estimators")
    return Opening(_best(results), first)


def _best(results: Results) -> str:
    """How the estimators compare; empty where they were not trained."""
    errors = {
        name: fmean(values)
        for name in ("rotation", "straight_through")
        if (values := finite(r.metric("mse") for r in results.of("estimators", name)))
    }
    if len(errors) < 2:
        return ""
    rotation, straight = errors["rotation"], errors["straight_through"]
    return (
        f"Without restarts, rotation reaches a test error of {rotation:.4f}, straight-through "
        f"{straight:.4f}."
    )


def codebook_sizes(results: Results) -> Picture:
    """Table 2: reconstruction loss, perplexity and usage over the codebook size K."""
    runs: Runs = {k: results.of("table2", f"k_{k}") for k in SIZES}
    printed = "paper (leaks norms)"
    loss = {
        "train": means(runs, lambda r: r.train("reconstruction_loss")),
        printed: _printed(TABLE2.items(), "reconstruction_loss"),
    }
    perplexity: Mapping[str, Points] = {
        "all codes used equally": {k: k for k in SIZES},
        "train": means(runs, lambda r: r.train("perplexity")),
        "train, batch mean": means(runs, lambda r: r.train("batch_perplexity")),
        printed: _printed(TABLE2.items(), "perplexity"),
    }
    usage = {"test": means(runs, lambda r: 100 * r.metric("usage"))}
    panels = (
        Plot("Reconstruction loss (train)", "mean squared error", loss),
        Plot("Perplexity (train)", "codes", perplexity),
        Plot("Codebook usage (test)", "% of codes", usage),
    )
    with style.look():
        figure, axes = line_plots(panels, _LOOKS, "codebook size K", tuple(SIZES))
        axes[0].set_ylim(bottom=0)
        axes[1].set_yscale("log", base=2)
        axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[2].set_ylim(0, 104)
        png = style.png(figure)
    return plot(
        "table2",
        png,
        "Reconstruction loss, perplexity and usage over the codebook size.",
        "Table 2 as plots. Gray: the paper's values, from a decoder that also receives ‖z_e‖ of "
        "every token.",
    )


def commitment_weights(results: Results) -> Picture:
    """Table 3: reconstruction loss, codebook loss and perplexity over the commitment weight β."""
    runs: Runs = {beta: results.of("table3", f"beta_{beta}") for beta in BETAS}

    def lines(metric: str) -> Mapping[str, Points]:
        def printed(split: str) -> Points:
            return _printed(((beta, row[split]) for beta, row in TABLE3.items()), metric)

        return {
            "test": means(runs, lambda r: r.record.epochs[-1].test.get(metric, math.nan)),
            "train": means(runs, lambda r: r.train(metric)),
            "paper, test (leaks norms)": printed("test"),
            "paper, train (leaks norms)": printed("train"),
        }

    panels = (
        Plot("Reconstruction loss", "mean squared error", lines("reconstruction_loss")),
        Plot("Codebook loss", "mean squared distance", lines("codebook_loss")),
        Plot("Perplexity", "codes", lines("perplexity")),
    )
    with style.look():
        figure, (loss, codebook, perplexity) = line_plots(
            panels, _LOOKS, "commitment weight β", BETAS
        )
        loss.set_ylim(bottom=0)
        perplexity.set_ylim(bottom=0)
        codebook.set_yscale("log")
        style.log_ticks(codebook.yaxis)
        png = style.png(figure)
    return plot(
        "table3",
        png,
        "Reconstruction loss, codebook loss and perplexity over the commitment weight.",
        "Table 3 as plots. Gray: the paper's values, from a decoder that also receives ‖z_e‖ of "
        "every token.",
    )


def estimators(results: Results) -> Picture:
    """Every metric of the test split by estimator, without and with restarts of dead codes.

    Metrics without a finite value are left out, and so are estimators without a run.
    """
    runs = results.of("estimators")
    panels = [p for p in _METRICS if finite(map(p.value, runs))]
    rows = {}
    for name, label in ESTIMATORS.items():
        groups = [(results.of("estimators", name + s), look) for s, look in _RESTARTS.items()]
        if any(found for found, _ in groups):
            rows[textwrap.fill(label, 16)] = groups
    columns = len(panels) // 2 + 1  # two rows, with at least one place left for the legend
    with style.look():
        layout = ConstrainedLayoutEngine(hspace=0.06)
        figure = Figure(figsize=(style.WIDTH, 2.1 + 0.78 * len(rows)), layout=layout)
        places = list(figure.subplots(2, columns, sharey=True, squeeze=False).flat)
        for axes, panel in zip(places, panels, strict=False):
            lines = finite(map(panel.reference, runs)) if panel.reference else []
            draw_panel(axes, panel, rows, *lines[:1])
        for axes in places[len(panels) :]:
            axes.axis("off")
        _legend(places[len(panels)], runs)
        png = style.png(figure)
    return plot(
        "estimators",
        png,
        "Metrics of each estimator with and without restarts of dead codes, every seed shown.",
        "Test split. Large marks: mean over the seeds; faint dots: single seeds; bars: their "
        "range. Filled: without restarts; hollow: with restarts.",
    )


def leak(results: Results) -> Picture:
    """The forward pass of the reflection against its decoded indices; the rotation for reference.

    The end of each row shows the ratio of the two errors, which is 1 for a discrete estimator.
    """
    names = [name + suffix for name in ("reflection", "rotation") for suffix in RESTARTS]
    found = [runs for name in names if (runs := results.of("estimators", name))]
    rows = {
        runs[0].run.variant.label: [
            Group(finite(r.metric(key) for r in runs), look)
            for key, look in (("forward_mse", _FORWARD), ("mse", _DECODED))
        ]
        for runs in found
    }
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 1.4 + 0.45 * len(rows)), layout="constrained")
        axes: Axes = figure.subplots()
        draw_rows(axes, rows)
        for row, (forward, decoded) in enumerate(rows.values()):
            if forward.values and decoded.values:
                times = ratio(fmean(decoded.values), fmean(forward.values))
                axes.annotate(
                    f"× {times:.2f}", (max(*forward.values, *decoded.values), row),
                    (12, 0), textcoords="offset points", va="center",
                )  # fmt: skip
        if not rows:
            axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center")
            axes.set_xticks([])
        axes.set_xlabel("mean squared error on the test split (×: decoded / forward)")
        axes.margins(x=0.09)
        labels = ["forward pass", "decoded from the indices"]
        style.legend(figure, [Line2D([], [], **look) for look in (_FORWARD, _DECODED)], labels)
        png = style.png(figure)
    return plot(
        "leak",
        png,
        "MSE of the forward pass and of the decoded indices, for reflection and rotation.",
        "The leak of the released reflection: its forward pass sees ‖z_e‖ of every token, its "
        "indices do not carry it. For the rotation, the two errors are equal.",
    )


def _legend(axes: Axes, runs: Sequence[Result]) -> None:
    names = ("without restarts", "with restarts of dead codes")
    entries = {
        name: Line2D([], [], **look) for name, look in zip(names, _RESTARTS.values(), strict=True)
    }
    if len(runs) > len({r.run.variant.name for r in runs}):
        seeds = Line2D([], [], color=style.REFERENCE, marker="o", markersize=SMALL, linewidth=1.2)
        entries["seeds and their range"] = seeds
    if finite(r.classifier_metric("accuracy_original") for r in runs):
        entries["on the original images"] = Line2D([], [], **REFERENCE)
    axes.legend(list(entries.values()), list(entries), loc="center left")


def _printed(rows: Iterable[tuple[float, Losses]], metric: str) -> Points:
    return {at: losses[metric] for at, losses in rows}
