"""Figures of our ablations, with alternative text and captions. Pure: results to pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from textwrap import fill

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rotvq.report import style
from rotvq.report.page import Picture
from rotvq.report.pictures import several_runs
from rotvq.studies.ablations.studies import BASELINE, SHARP, STUDIES
from rotvq.studies.ablations.tables import (
    MEAN_BITS,
    MEAN_BOUND,
    MSE,
    bound,
    modeled,
    validation,
)
from rotvq.studies.curves import GUIDANCE, curve
from rotvq.studies.figure import REFERENCE, Panel, draw_panel, filled, plot
from rotvq.studies.page import Opening
from rotvq.studies.results import Result, Results
from rotvq.studies.table import ratio
from rotvq.text import counted

_PANELS = (
    Panel("MSE ↓", "mean squared error, validation", validation),
    Panel("SSIM ↑", "structural similarity, test split", lambda r: r.metric("ssim")),
    Panel("Perplexity ↑", "codes, test split", lambda r: r.metric("perplexity")),
)
_LABEL = 32
"""Characters in a line of a row's label."""


def figures(study: str, results: Results) -> tuple[Picture, ...]:
    """The figures of a study that has a finished run."""
    marks = "Large marks: mean over the seeds; faint dots: single seeds; bars: their range."
    match study:
        case "steps":
            png = _rows(results, study)
            alt = "MSE, SSIM and perplexity of every step."
            caption = f"Each step keeps the changes above it. {marks}"
        case "options":
            png = _rows(results, study, results.of("steps", BASELINE))
            alt = "MSE, SSIM and perplexity of every option, and of the step without it."
            caption = f"Each option alone. Dashed: the step without it. {marks}"
        case "codebooks":
            png = _codebooks(results)
            alt = "Error and usage over the codebook size."
            caption = (
                "64 tokens per image throughout. Images are not Gaussian, so a code may fall below "
                "the bound."
            )
        case "priors":
            png = _priors(results)
            alt = "Error over mean bits; Fréchet distance and own-class share over guidance."
            caption = (
                "Left: each kind of tokens at its mean bits, and the bound of a Gaussian source. "
                "Middle and right: samples, compared with images held out."
            )
        case _:
            return ()
    return (plot(study, png, alt, caption),)


def opening(results: Results) -> Opening:
    """The page opens with the error of each step, and pictures of the recipes that have any."""
    steps = STUDIES["steps"].variants
    first, last = (results.of("steps", steps[at].name) for at in (0, -1))
    named = {
        "the paper's recipe": first,
        "best": results.of("best") or last,
        "sharp": results.of("sharp", SHARP),
    }
    drawn = {label: runs[0].record for label, runs in named.items() if runs}
    pictures = several_runs(tuple(drawn.values()), tuple(drawn))
    return Opening(_gain(first, last, len(steps) - 1), ("steps",), pictures)


def _gain(first: Sequence[Result], last: Sequence[Result], changes: int) -> str:
    if not first or not last:
        return ""
    before, after = (fmean(r.metric("mse") for r in runs) for runs in (first, last))
    return (
        f"Starting from the paper's recipe, {counted(changes, 'change')} in turn reduce the "
        f"test MSE from {before:.4f} to {after:.4f}, by {100 - 100 * ratio(after, before):.0f} %."
    )


def _rows(results: Results, study: str, without: Sequence[Result] = ()) -> bytes:
    """Three metrics of every row of a study, with a dashed line at the mean of other runs."""
    rows = {fill(label, _LABEL): [(runs, filled(0))] for label, runs in results.rows(study).items()}
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 1.1 + 0.3 * len(rows)), layout="constrained")
        for axes, panel in zip(figure.subplots(1, 3, sharey=True), _PANELS, strict=True):
            mean = fmean(map(panel.value, without)) if without else math.nan
            draw_panel(axes, panel, rows, mean)
        return style.png(figure)


def _priors(results: Results) -> bytes:
    """Error over mean bits, and samples over guidance."""
    rows = results.rows("priors")
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 4.2), layout="constrained")
        error, distance, share = figure.subplots(1, 3)
        bits, bounds = (
            [fmean(map(metric.value, runs)) for runs in rows.values()]
            for metric in (MEAN_BITS, MEAN_BOUND)
        )
        error.plot(*zip(*sorted(zip(bits, bounds, strict=True)), strict=True), **REFERENCE)
        for at, (runs, x) in enumerate(zip(rows.values(), bits, strict=True)):
            error.plot([x], [fmean(r.metric("mse") for r in runs)], **filled(at))
            for axes, key in ((distance, "frechet_distance"), (share, "class_accuracy")):
                metrics = [modeled("", curve(key, "guidance", s), MSE) for s in GUIDANCE]
                values = [fmean(map(metric.value, runs)) for metric in metrics]
                axes.plot(GUIDANCE, values, "o-", color=style.color(at))
        error.set_title("MSE ↓")
        error.set_xlabel("mean bits per image")
        distance.set_title("Fréchet distance ↓")
        share.set_title("Own class ↑")
        for axes in (distance, share):
            axes.set_xlabel("guidance")
        handles = [Line2D([], [], **filled(at)) for at in range(len(rows))]
        style.legend(
            figure,
            [*handles, Line2D([], [], **REFERENCE)],
            [*rows, "bound of a Gaussian source at the mean bits"],
        )
        return style.png(figure)


def _codebooks(results: Results) -> bytes:
    """Error and usage over the codebook size, and the Gaussian bound."""
    rows = results.rows("codebooks").values()
    sizes = [runs[0].run.config.quantizer.codebook_size for runs in rows]
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
        error, usage = figure.subplots(1, 2)
        error.plot(sizes, [bound(runs[0]) for runs in rows], **REFERENCE)
        for axes, key, factor in ((error, "mse", 1), (usage, "usage", 100)):
            means = [factor * fmean(r.metric(key) for r in runs) for runs in rows]
            axes.plot(sizes, means, "o-", color=style.color(0))
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [f"{k:,}" for k in sizes])
            axes.minorticks_off()
            axes.set_xlabel("codebook size K")
        error.set_title("MSE ↓")
        error.set_ylabel("mean squared error, test split")
        error.set_ylim(bottom=0)
        usage.set_title("Codebook usage ↑")
        usage.set_ylabel("% of codes, test split")
        usage.set_ylim(0, 104)
        handles = [Line2D([], [], color=style.color(0), marker="o"), Line2D([], [], **REFERENCE)]
        style.legend(figure, handles, ["measured", "bound of a Gaussian source at the same bits"])
        return style.png(figure)
