"""Metrics of runs as tables. Pure: records to texts."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeGuard

from rotvq.report.tables import MISSING, Cell, Row, comparable, judged_alike
from rotvq.run_record import RunRecord, lookup


class Metric(NamedTuple):
    """A metric of a run.

    Args:
        name: of its row.
        value: None where it is not known.
        text: how a value is written.
        better: min, max, or None where neither end is better.
        short: its name above a column, if it is among those shown first.
        differs: how the change from one value to another is written.
        classifier: whether it is measured by an evaluating classifier.
    """

    name: str
    value: Callable[[RunRecord], float | None]
    text: Callable[[float], str]
    better: Callable[[Sequence[float]], float] | None = None
    short: str = ""
    differs: Callable[[float, float], str] = lambda a, b: f"{100 * (b / a - 1):+.1f} %" if a else ""
    classifier: bool = False


def _evaluated(name: str) -> Callable[[RunRecord], float | None]:
    return lambda run: run.evaluation.metrics.get(name) if run.evaluation else None


def _sized(name: str) -> Callable[[RunRecord], float | None]:
    def value(run: RunRecord) -> float | None:
        size = lookup(run.run, f"model.{name}")
        return size if isinstance(size, int | float) else None

    return value


def _at_the_end(name: str) -> Callable[[RunRecord], float | None]:
    """A value of the codebook's state after the last epoch."""

    def value(run: RunRecord) -> float | None:
        found = run.epochs[-1].codebook.get(name)
        return found if isinstance(found, int | float) else None

    return value


def _at_quantile(place: int) -> Callable[[RunRecord], float | None]:
    """A quantile of the relative cluster sizes, by its index in the record."""

    def value(run: RunRecord) -> float | None:
        spread = run.epochs[-1].codebook.get("spread")
        found = spread[place] if isinstance(spread, list) and len(spread) > place else None
        return found if isinstance(found, int | float) else None

    return value


def _speed(run: RunRecord) -> float | None:
    speeds = [e.timing["images_per_second"] for e in run.epochs if "images_per_second" in e.timing]
    return math.fsum(speeds) / len(speeds) if speeds else None


def _minutes(run: RunRecord) -> float | None:
    seconds = [e.timing["train_seconds"] for e in run.epochs if "train_seconds" in e.timing]
    return math.fsum(seconds) / 60 if seconds else None


def _decimals(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:,.{digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _significant(value: float) -> str:
    return f"{value:.4g}"


FORWARD_MSE = Metric(
    "MSE of the forward pass (leaks ‖z_e‖ past the codebook)",
    _evaluated("forward_mse"),
    _significant,
)


def _points(digits: int, factor: float = 1, unit: str = "") -> Callable[[float, float], str]:
    """A change as a difference, where a ratio says little."""
    return lambda a, b: f"{factor * (b - a):+.{digits}f}{unit}"


# Codebook and commitment losses are in the units of each run's own latents, so none is best.
METRICS = (
    Metric("MSE", _evaluated("mse"), _significant, min, "MSE"),
    FORWARD_MSE,
    Metric(
        "PSNR of the mean MSE (dB)", _evaluated("psnr"), _decimals(2), max, "PSNR (dB)", _points(2)
    ),
    Metric(
        "PSNR, mean over images (dB)", _evaluated("psnr_per_image"), _decimals(2), max,
        differs=_points(2),
    ),
    Metric("SSIM", _evaluated("ssim"), _decimals(4), max, "SSIM", _points(4)),
    Metric(
        "SSIM, uniform 7x7 window", _evaluated("ssim_uniform_7x7"), _decimals(4), max,
        differs=_points(4),
    ),
    Metric("Sharpness, energy of edges / originals'", _evaluated("sharpness"), _decimals(2)),
    Metric(
        "Fréchet distance, evaluating classifier",
        _evaluated("frechet_distance"),
        _decimals(2),
        min,
        "Fréchet distance",
        classifier=True,
    ),
    Metric(
        "Classified correctly",
        _evaluated("accuracy_reconstruction"),
        _percent,
        max,
        "Classified correctly",
        _points(1, 100, " points"),
        classifier=True,
    ),
    Metric(
        "Classified as their originals",
        _evaluated("agreement"),
        _percent,
        max,
        differs=_points(1, 100, " points"),
        classifier=True,
    ),
    Metric("rFID", _evaluated("rfid"), _decimals(2), min, "rFID"),
    Metric("LPIPS", _evaluated("lpips"), _decimals(4), min, "LPIPS"),
    Metric("Perplexity", _evaluated("perplexity"), _decimals(1), max, "Perplexity"),
    Metric("Codes used", _evaluated("codes_used"), _decimals(0), max),
    Metric("Codebooks", lambda run: run.codebooks if run.codebooks > 1 else None, _decimals(0)),
    Metric("Codebook size K", lambda run: run.codebook_size, _decimals(0)),
    Metric(
        "Usage, codes used / K",
        _evaluated("usage"),
        _percent,
        max,
        "Usage",
        _points(1, 100, " points"),
    ),
    Metric("Bits per image", _sized("bits_per_image"), lambda value: f"{value:,.6g}", min),
    Metric("Bits per pixel", _sized("bits_per_pixel"), _significant, min, "Bits/pixel"),
    Metric(
        "Bits per token under the prior", _evaluated("bits_per_token"), _decimals(3), min,
        "Bits/token",
    ),
    Metric(
        "Bits per token without a given class",
        _evaluated("bits_per_token_without_class"),
        _decimals(3),
        min,
    ),
    Metric("Entropy of code use, bits per token", _evaluated("entropy_per_token"), _decimals(3)),
    Metric(
        "Bits per image under the prior",
        lambda run: _evaluated("bits_per_image")(run) if run.is_prior else None,
        _decimals(1),
        min,
        "Bits/image",
    ),
    Metric(
        "Bits per image as a fixed-length code", _evaluated("fixed_bits_per_image"), _decimals(1)
    ),
    Metric("Parameters", _sized("parameters"), _decimals(0), min, "Parameters"),
    Metric("Training minutes", _minutes, _decimals(1), min, "Minutes"),
    Metric("Training images/s (mean over epochs)", _speed, _decimals(0), max),
    Metric(
        "Dead codes (used less than the restart threshold, or 3 % of the mean)",
        _at_the_end("dead"),
        _decimals(0),
        min,
    ),
    Metric(
        "Training steps that the longest-idle code has been unused",
        _at_the_end("oldest"),
        _decimals(0),
    ),
    Metric("Cluster size, lower quartile / mean", _at_quantile(2), _significant),
    Metric("Cluster size, upper quartile / mean", _at_quantile(4), _significant),
    Metric("Codebook loss", _evaluated("codebook_loss"), _significant),
    Metric("Commitment loss", _evaluated("commitment_loss"), _significant),
    Metric("Quantization error / variance of z_e", _evaluated("relative_error"), _significant),
)  # fmt: skip


def error(run: RunRecord) -> float:
    """What runs are ranked by: bits per token of a prior, otherwise the error; nan if unknown.

    The error is that of the whole split, or of the last test during training.
    """
    key, lately = ("bits_per_token",) * 2 if run.is_prior else ("mse", "reconstruction_loss")
    if run.evaluation:
        return run.evaluation.metrics.get(key, math.nan)
    tests = [epoch.test for epoch in run.epochs if epoch.test]
    return tests[-1].get(lately, math.nan) if tests else math.nan


def ranked(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs, best first; those whose error is unknown or not finite come last."""
    return sorted(runs, key=lambda run: e if math.isfinite(e := error(run)) else math.inf)


def metric_rows(runs: Sequence[RunRecord], metrics: Sequence[Metric] = METRICS) -> tuple[Row, ...]:
    """The final metrics, one cell per run; rows without any value are left out."""
    leaks = any(_leaks(run) for run in runs)
    rows = [_row(metric, runs) for metric in metrics if leaks or metric is not FORWARD_MSE]
    return tuple(row for row in rows if any(cell.text != MISSING for cell in row.cells))


def first_metrics() -> tuple[Metric, ...]:
    """Those that a report shows first."""
    return tuple(metric for metric in METRICS if metric.short)


def with_change(row: Row) -> Row:
    """A row of two runs, and the change from the first to the second."""
    metric = next(metric for metric in METRICS if metric.name == row.name)
    before, after = row.cells
    text = MISSING
    if before.text == after.text:
        text = "same"
    elif _is_finite(before.value) and _is_finite(after.value):
        text = metric.differs(before.value, after.value).replace("-", "−")
    return Row(row.name, (*row.cells, Cell(text)))


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _leaks(run: RunRecord) -> bool:
    """Whether the forward pass decodes something other than codes (`reflection`)."""
    mse, forward = _evaluated("mse")(run), _evaluated("forward_mse")(run)
    if mse is None or forward is None:
        return False
    return abs(mse - forward) > 1e-5 * abs(mse)


def _row(metric: Metric, runs: Sequence[RunRecord]) -> Row:
    values = [metric.value(run) for run in runs]
    texts = [MISSING if v is None else metric.text(v) for v in values]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    best = MISSING  # equal texts are equally good; a row without differences has no best
    fair = comparable(runs) and (judged_alike(runs) or not metric.classifier)
    if metric.better and finite and len({*texts} - {MISSING}) > 1 and fair:
        best = metric.text(metric.better(finite))
    cells = [Cell(t, t == best != MISSING, v) for t, v in zip(texts, values, strict=True)]
    return Row(metric.name, tuple(cells))
