"""The paper's tables with what was measured beside each number. Pure: results to texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from rotvq.guarded import LARGEST_NUMBER
from rotvq.studies.milestones import RECONSTRUCTIONS, milestone
from rotvq.studies.paper import paper
from rotvq.studies.paper.results import Result, Results
from rotvq.studies.paper.studies import BETAS, SIZES

MISSING = "—"


class Table(NamedTuple):
    """A table of texts: the first `labels` columns are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str
    labels: int = 1


class Metric(NamedTuple):
    """A row of the paper's tables: its name, where it stands in a record, how it is written."""

    name: str
    key: str
    text: Callable[[float], str]
    paper_key: str | None = None  # None: the paper does not report it


def decimals(digits: int) -> Callable[[float], str]:
    """How to write a number with so many decimals; nan is a dash."""
    return lambda value: MISSING if math.isnan(value) else f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A share as a percentage."""
    return MISSING if math.isnan(value) else f"{100 * value:.1f} %"


TRAIN_METRICS = (
    Metric("total loss", "loss", decimals(4), "loss"),
    Metric("reconstruction loss", "reconstruction_loss", decimals(4), "reconstruction_loss"),
    Metric("codebook loss", "codebook_loss", decimals(4), "codebook_loss"),
    Metric("perplexity, mean over batches", "batch_perplexity", decimals(1), "perplexity"),
    Metric("perplexity, whole split", "perplexity", decimals(1), "perplexity"),
    Metric("usage", "usage", percent),
)


def training_table(result: Result) -> Table:
    """The base model at the paper's milestones."""
    epochs = result.run.config.training.epochs
    rows = []
    for number in dict.fromkeys(milestone(at, epochs) for at in RECONSTRUCTIONS):
        found = next(e for e in result.record.epochs if e.number == number)
        for split, values in (("train", found.train), ("test", found.test)):
            numbers = (m.text(values.get(m.key, math.nan)) for m in TRAIN_METRICS)
            rows.append((f"{number} of {epochs}", split, *numbers))
    return Table(
        "The base model as training goes on",
        ("epoch", "split", *(m.name for m in TRAIN_METRICS)),
        tuple(rows),
        "Training metrics are means over the epoch, while the weights move; test metrics are of "
        "the weights at its end. All epochs are in the run's epochs.jsonl.",
        labels=2,
    )


def table2(results: Results) -> Table:
    """Table 2: metrics of the first epoch, and of the last for each codebook size."""
    rows: list[tuple[str, ...]] = []
    for label, large in _labelled("Initial (first epoch)", results.of("table2", "k_1024")):
        rows += _beside(label, large, 0, paper.INITIAL)
    for k, name in SIZES.items():
        for label, result in _labelled(f"Final {name}, K = {k}", results.of("table2", f"k_{k}")):
            rows += _beside(label, result, -1, paper.TABLE2[k])
    return Table(
        "Table 2: size of the codebook",
        ("variant", "metric", "paper, train", "measured, train", "difference", "measured, test"),
        tuple(rows),
        "The paper does not say whether its perplexity is a mean over batches or of the whole "
        "split, so it stands beside both. Its own rows do not add up: 0.0077 + 1.25 × 0.0262 is "
        "0.0405, not 0.0451; and three of the four sizes have one row.",
        labels=2,
    )


def table3(results: Results) -> Table:
    """Table 3: metrics of the last epoch for each weight β of the commitment loss."""
    rows = []
    for beta in BETAS:
        for label, result in _labelled(f"β = {beta:g}", results.of("table3", f"beta_{beta}")):
            printed = paper.TABLE3[beta]
            for metric in TRAIN_METRICS:
                columns: list[str] = []
                for split in ("train", "test"):
                    value = _last(result, split, metric.key)
                    columns += _compared(metric, printed[split], value)
                rows.append((label, metric.name, *columns))
    return Table(
        "Table 3: weight of the commitment loss",
        (
            "variant", "metric", "paper, train", "measured, train", "difference",
            "paper, test", "measured, test", "difference",
        ),
        tuple(rows),
        "The total loss is reconstruction + codebook + β·commitment, as in the paper, so it falls "
        "with the codebook loss whatever the images look like.",
        labels=2,
    )  # fmt: skip


ESTIMATOR_METRICS: tuple[tuple[str, Callable[[Result], float], Callable[[float], str]], ...] = (
    ("MSE", lambda r: r.metric("mse"), decimals(4)),
    ("SSIM", lambda r: r.metric("ssim"), decimals(3)),
    ("perplexity", lambda r: r.metric("perplexity"), decimals(0)),
    ("usage", lambda r: r.metric("usage"), percent),
    ("commitment loss", lambda r: r.metric("commitment_loss"), decimals(4)),
    ("accuracy", lambda r: r.yardstick("accuracy_reconstruction"), percent),
    ("Fréchet distance", lambda r: r.yardstick("frechet_distance"), decimals(2)),
)


def estimators(results: Results) -> Table:
    """Every estimator with and without restart: mean and spread over the seeds."""
    variants = {r.run.variant.name: r.run.variant.label for r in results.of("estimators")}
    rows = []
    for name, label in variants.items():
        runs = results.of("estimators", name)
        numbers = (spread([value(r) for r in runs], text) for _, value, text in ESTIMATOR_METRICS)
        rows.append((label, str(len(runs)), *numbers))
    original = next((r.yardstick("accuracy_original") for r in results.of("estimators")), math.nan)
    return Table(
        "Estimators, with and without restart of dead codes",
        ("estimator", "seeds", *(name for name, _, _ in ESTIMATOR_METRICS)),
        tuple(rows),
        "Test split; mean ± standard deviation over the seeds. Everything but the commitment loss "
        "is of images decoded from their indices alone. Accuracy: of the project's own classifier "
        f"on the reconstructions (on the originals: {percent(original)}). Fréchet distance: "
        "between its features of both; it is not FID and cannot be compared with published ones.",
    )


def leak(results: Results) -> Table:
    """The released reflection: its forward pass beside what its indices decode to."""
    rows = []
    for name in ("reflection", "reflection_restart", "rotation", "rotation_restart"):
        runs = results.of("estimators", name)
        if runs:
            values = [[r.metric(key) for r in runs] for key in ("forward_mse", "mse")]
            forward, decoded = map(fmean, values)
            texts = [spread(v, decimals(4)) for v in values]
            rows.append((runs[0].run.variant.label, *texts, decimals(2)(ratio(decoded, forward))))
    return Table(
        "The leak of the released transform",
        ("estimator", "MSE of the forward pass", "MSE of the decoded indices", "ratio of means"),
        tuple(rows),
        "The reflection hands the decoder ‖z_e‖·q̂: one real number a token past the codebook. The "
        "same model, given only the indices, makes other images. For a discrete estimator the two "
        "are one.",
    )


FINAL_METRICS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("MSE", "mse", decimals(5)),
    ("PSNR of the split (dB)", "psnr", decimals(2)),
    ("PSNR, mean over images (dB)", "psnr_per_image", decimals(2)),
    ("SSIM", "ssim", decimals(4)),
    ("total loss", "loss", decimals(4)),
    ("codebook loss", "codebook_loss", decimals(4)),
    ("commitment loss", "commitment_loss", decimals(4)),
    ("perplexity", "perplexity", decimals(1)),
    ("usage", "usage", percent),
    ("bits an image", "bits_per_image", decimals(0)),
)


def final(result: Result) -> Table:
    """The long run's last model and the best of its epochs, fully evaluated."""
    best = result.measured["best"]
    rows = [
        (
            name,
            text(result.metric(key)),
            text(number(best["metrics"].get(key))),
        )
        for name, key, text in FINAL_METRICS
    ]
    epochs = result.run.config.training.epochs
    return Table(
        "The final model, test split",
        ("metric", f"last (epoch {epochs})", f"best (epoch {best_epoch(result)})"),
        tuple(rows),
        "Best: the epoch of the least total loss on the same test split, as the paper's script "
        "has it, so its numbers are a little too good; the last model's are not chosen.",
    )


def best_epoch(result: Result) -> int:
    """The epoch, from 1, of the least total loss on the test split."""
    tested = [e for e in result.record.epochs if e.test]
    return min(tested, key=lambda e: e.test.get("loss", math.nan)).number


def number(value: object) -> float:
    """A number of a JSON record; null and what no metric can be are nan."""
    known = isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER
    return float(value) if known else math.nan  # type: ignore[arg-type]


def ratio(a: float, b: float) -> float:
    """a / b; nan where there is none."""
    return a / b if b else math.nan


def spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Mean ± standard deviation; the value alone where there is one."""
    finite = [v for v in values if not math.isnan(v)]
    if len(finite) < 2:
        return text(finite[0]) if finite else MISSING
    return f"{text(fmean(finite))} ± {text(stdev(finite))}"


def _labelled(label: str, runs: Sequence[Result]) -> list[tuple[str, Result]]:
    """Each run with its label, which names the seed where there are several."""
    return [(label if len(runs) == 1 else f"{label}, seed {r.run.seed}", r) for r in runs]


def _beside(label: str, result: Result, epoch: int, printed: paper.Losses) -> list[tuple[str, ...]]:
    found = result.record.epochs[epoch]
    return [
        (
            label,
            metric.name,
            *_compared(metric, printed, found.train.get(metric.key, math.nan)),
            metric.text(found.test.get(metric.key, math.nan)),
        )
        for metric in TRAIN_METRICS
    ]


def _compared(metric: Metric, printed: paper.Losses, value: float) -> tuple[str, str, str]:
    """Paper, measured, difference."""
    if metric.paper_key is None or math.isnan(value):
        return MISSING, metric.text(value), MISSING
    reported = printed[metric.paper_key]
    difference = value - reported
    sign = "+" if difference >= 0 else "−"
    change = f"{sign}{metric.text(abs(difference))} ({100 * difference / reported:+.0f} %)"
    printed_text = metric.text(reported) if reported < 1 else f"{reported:g}"
    return printed_text, metric.text(value), change.replace("(-", "(−")


def _last(result: Result, split: str, key: str) -> float:
    last = result.record.epochs[-1]
    return (last.train if split == "train" else last.test).get(key, math.nan)
