"""The ladder, the levers, the codebooks and the best as tables. Pure: results to texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from rotvq.run_record import lookup
from rotvq.studies.paper.results import Result, Results
from rotvq.studies.paper.tables import (
    Metric,
    Table,
    decimals,
    number,
    percent,
    ratio,
    spread,
)

Value = Callable[[Result], float]

TEST = (
    Metric("PSNR, dB", "psnr", decimals(2)),
    Metric("SSIM", "ssim", decimals(3)),
    Metric("usage", "usage", percent),
    Metric("perplexity", "perplexity", decimals(0)),
)
"""Metrics of the test split besides its MSE."""

MSE = decimals(5)
NOTE = (
    "Mean ± standard deviation over the seeds. Validation: training images held out, on which "
    "choices are made. Everything else is of the whole test split, of images decoded from their "
    "indices alone. Minutes: of training, on the machine above; other work may have shared it."
)


def thousandths(mse: float) -> str:
    """An MSE for a narrow column: 12.37 for 0.01237."""
    return decimals(2)(1000 * mse)


def validation(result: Result) -> float:
    """Mean squared error on the images held out, after the last epoch."""
    return result.record.epochs[-1].test.get("reconstruction_loss", math.nan)


def minutes(result: Result) -> float:
    """Of training."""
    return result.minutes


def parameters(result: Result) -> float:
    """Weights of the network; an EMA codebook is none."""
    return number(lookup(result.record.run, "model.parameters"))


def rows_of(results: Results, study: str) -> dict[str, tuple[Result, ...]]:
    """The finished runs of a study by the label of their variant, in order."""
    rows: dict[str, list[Result]] = {}
    for result in results.of(study):
        rows.setdefault(result.run.variant.label, []).append(result)
    order = [r.variant.label for r in results.plan if r.study == study]
    return {label: tuple(rows[label]) for label in dict.fromkeys(order) if label in rows}


def ladder(results: Results) -> Table:
    """A rung a row; each keeps what is below it."""
    rows, below = [], None
    for label, runs in rows_of(results, "steps").items():
        step = _change(runs, below)
        rows.append((label if below is None else f"+ {label}", *_cells(runs, step)))
        below = runs
    return Table(
        "The ladder",
        ("rung", *_columns("than the rung below")),
        tuple(rows),
        f"Each rung keeps what is above it in this table. {NOTE}",
    )


def levers(results: Results, branch: Sequence[Result]) -> Table:
    """A lever a row, each alone on one rung of the ladder.

    Args:
        results: with runs of the study levers.
        branch: runs of that rung, without a lever.
    """
    rows = [(label, *_cells(runs, _change(runs, branch))) for label, runs in
            rows_of(results, "options").items()]  # fmt: skip
    if branch:
        rows.insert(0, ("none of them", *_cells(branch, "")))
    return Table("Levers", ("options", *_columns("than without")), tuple(rows), NOTE)


def codebooks(results: Results) -> Table:
    """A size of the codebook a row, with what a Gaussian source of these variances would cost."""
    rows = []
    for label, runs in rows_of(results, "codebooks").items():
        (first, *_) = runs
        rows.append(
            (
                label,
                decimals(0)(first.metric("bits_per_image")),
                spread([r.metric("mse") for r in runs], MSE),
                MSE(bound(first)),
                *(spread([r.metric(m.key) for r in runs], m.text) for m in TEST),
                spread([minutes(r) for r in runs], decimals(1)),
            )
        )
    columns = ("bits an image", "test MSE", "Gaussian bound", *(m.name for m in TEST), "minutes")
    return Table(
        "Large codebooks",
        ("codebook", *columns),
        tuple(rows),
        "Gaussian bound: the least MSE of any code of so many bits for a Gaussian source with the "
        "covariance of the training images (reverse water-filling). Images are not Gaussian and "
        "may be coded with less. Usage and perplexity: of the test split.",
    )


def best(results: Results) -> Table:
    """The best recipe beside plain straight-through, at the same time of training."""
    both = {**rows_of(results, "best"), **rows_of(results, "plain")}
    rows = [(label, *_cells(runs, None)) for label, runs in both.items()]
    return Table("Half an hour", ("recipe", *_columns("")), tuple(rows), NOTE)


def bound(result: Result) -> float:
    """Of the measurement of that name; nan where it was not made."""
    return number(lookup(result.measured.get("bound", {}), "metrics.gaussian_distortion"))


def _columns(change: str) -> tuple[str, ...]:
    less = (f"less {change}",) if change else ()
    names = (m.name for m in TEST)
    return (
        "validation MSE, ×1000", *less, "test MSE, ×1000", *names, "parameters", "minutes", "seeds",
    )  # fmt: skip


def _cells(runs: Sequence[Result], change: str | None) -> tuple[str, ...]:
    """Of a row; a change of "" leaves its column blank, in tables that have none it is left out."""
    columns: list[tuple[Value, Callable[[float], str]]] = [(lambda r: r.metric("mse"), thousandths)]
    columns += [(lambda r, key=m.key: r.metric(key), m.text) for m in TEST]  # type: ignore[misc]
    columns += [(parameters, decimals(0)), (minutes, decimals(1))]
    cells = (_spread([value(r) for r in runs], text) for value, text in columns)
    held = _spread([validation(r) for r in runs], thousandths)
    return (held, *([] if change is None else [change]), *cells, str(len(runs)))


def _spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Without the spread where it cannot be seen: columns are narrow."""
    return text(values[0]) if len(set(map(text, values))) == 1 else spread(values, text)


def _change(runs: Sequence[Result], before: Sequence[Result] | None) -> str:
    """By how much the validation MSE fell, seeds that both have."""
    pairs = paired(runs, before or ())
    return f"{100 * (1 - fmean(ratio(a, b) for a, b in pairs)):.1f} %" if pairs else ""


def paired(runs: Sequence[Result], before: Sequence[Result]) -> list[tuple[float, float]]:
    """Validation MSE of both, of the seeds that both have."""
    others = {r.run.seed: validation(r) for r in before}
    return [(validation(r), others[r.run.seed]) for r in runs if r.run.seed in others]
