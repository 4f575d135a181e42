"""Tables of the paper's studies, its values next to the measured ones. Pure: results to texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from rotvq.studies.milestones import RECONSTRUCTIONS, milestone
from rotvq.studies.paper.studies import BETAS, INITIAL, RESTARTS, SIZES, TABLE2, TABLE3, Losses
from rotvq.studies.results import Result, Results
from rotvq.studies.table import (
    MISSING,
    Table,
    classified,
    decimals,
    labeled,
    number,
    percent,
    ratio,
    spread,
    tested,
)


class Recorded(NamedTuple):
    """A metric of an epoch: its name, its key in a record, how it is written, and the paper's key.

    Without a key of the paper, the paper does not report it.
    """

    name: str
    key: str
    text: Callable[[float], str]
    paper_key: str | None = None


TRAIN_METRICS = (
    Recorded("total loss", "loss", decimals(4), "loss"),
    Recorded("reconstruction loss", "reconstruction_loss", decimals(4), "reconstruction_loss"),
    Recorded("codebook loss", "codebook_loss", decimals(4), "codebook_loss"),
    Recorded("perplexity, mean over batches", "batch_perplexity", decimals(1), "perplexity"),
    Recorded("perplexity, whole split", "perplexity", decimals(1), "perplexity"),
    Recorded("usage", "usage", percent),
)


def tables(study: str, results: Results) -> tuple[Table, ...]:
    """The tables of a study that has a finished run, in order."""
    first = results.of(study)[0]
    match study:
        case "training":
            return (training(first),)
        case "table2":
            return (table2(results),)
        case "table3":
            return (table3(results),)
        case "final":
            return (final(first),)
        case "estimators":
            leaks = leak(results)
            return (estimators(results), *([leaks] if leaks.rows else []))
    return ()


def training(result: Result) -> Table:
    """The base model at the paper's milestones."""
    epochs = result.run.config.training.epochs
    rows = []
    for at in dict.fromkeys(milestone(epoch, epochs) for epoch in RECONSTRUCTIONS):
        found = next(e for e in result.record.epochs if e.number == at)
        for split, values in (("train", found.train), ("test", found.test)):
            numbers = (m.text(values.get(m.key, math.nan)) for m in TRAIN_METRICS)
            rows.append((f"{at} of {epochs}", split, *numbers))
    return Table(
        "The base model during training",
        ("epoch", "split", *(m.name for m in TRAIN_METRICS)),
        tuple(rows),
        "Training metrics are means over the epoch, while the weights change; test metrics are of "
        "the weights at its end. All epochs are in the run's epochs.jsonl.",
        labels=2,
    )


def table2(results: Results) -> Table:
    """Table 2: metrics of the first epoch, and of the last for each codebook size."""
    rows: list[tuple[str, ...]] = []
    for label, large in labeled("Initial (first epoch)", results.of("table2", "k_1024")):
        rows += _beside(label, large, 0, INITIAL)
    for k, name in SIZES.items():
        for label, result in labeled(f"Final {name}, K = {k}", results.of("table2", f"k_{k}")):
            rows += _beside(label, result, -1, TABLE2[k])
    return Table(
        "Table 2: codebook size",
        ("variant", "metric", "paper, train", "measured, train", "difference", "measured, test"),
        tuple(rows),
        "The paper does not say whether its perplexity is a mean over batches or of the whole "
        "split, so we compare it with both. Its rows are not consistent: 0.0077 + 1.25 × 0.0262 "
        "is 0.0405, not 0.0451, and three of the four sizes have identical rows.",
        labels=2,
    )


def table3(results: Results) -> Table:
    """Table 3: metrics of the last epoch for each weight β of the commitment loss."""
    rows = []
    for beta in BETAS:
        for label, result in labeled(f"β = {beta:g}", results.of("table3", f"beta_{beta}")):
            printed = TABLE3[beta]
            for metric in TRAIN_METRICS:
                columns: list[str] = []
                for split in ("train", "test"):
                    value = _last(result, split, metric.key)
                    columns += _compared(metric, printed[split], value)
                rows.append((label, metric.name, *columns))
    return Table(
        "Table 3: commitment weight",
        (
            "variant", "metric", "paper, train", "measured, train", "difference",
            "paper, test", "measured, test", "difference",
        ),
        tuple(rows),
        "The total loss is reconstruction + codebook + β·commitment, as in the paper, so it falls "
        "with the codebook loss regardless of image quality.",
        labels=2,
    )  # fmt: skip


MSE = tested("MSE", "mse", decimals(4), higher=False)
SSIM = tested("SSIM", "ssim", decimals(3))
PERPLEXITY = tested("perplexity", "perplexity", decimals(0))
USAGE = tested("usage", "usage", percent)
COMMITMENT = tested("commitment loss", "commitment_loss", decimals(4))
ACCURACY = classified("classifier accuracy", "accuracy_reconstruction", percent)
FRECHET = classified("Fréchet distance", "frechet_distance", decimals(2), higher=False)
_ESTIMATOR_METRICS = (MSE, SSIM, PERPLEXITY, USAGE, COMMITMENT, ACCURACY, FRECHET)


def estimators(results: Results) -> Table:
    """Every estimator without and with restarts: mean and spread over the seeds."""
    rows = [
        (label, str(len(runs)), *(metric.spread(runs) for metric in _ESTIMATOR_METRICS))
        for label, runs in results.rows("estimators").items()
    ]
    original = results.of("estimators")[0].classifier_metric("accuracy_original")
    return Table(
        "Estimators, with and without restarts of dead codes",
        ("estimator", "seeds", *(m.name for m in _ESTIMATOR_METRICS)),
        tuple(rows),
        "Test split; mean ± standard deviation over the seeds. All metrics except the commitment "
        "loss are of images decoded from their indices alone. Accuracy: of our own classifier, on "
        f"the reconstructions (on the originals: {percent(original)}). Fréchet distance: between "
        "the classifier's features of both; not comparable with published FID values.",
    )


def leak(results: Results) -> Table:
    """The released reflection: its forward pass compared with its decoded indices."""
    rows = []
    for name in (n + suffix for n in ("reflection", "rotation") for suffix in RESTARTS):
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
        "The reflection passes ‖z_e‖·q̂ to the decoder: one real number per token that the codebook "
        "does not contain. Given only the indices, the same model produces different images. For "
        "a discrete estimator the two errors are equal.",
    )


_FINAL_METRICS = (
    Recorded("MSE", "mse", decimals(5)),
    Recorded("PSNR of the mean MSE (dB)", "psnr", decimals(2)),
    Recorded("PSNR, mean over images (dB)", "psnr_per_image", decimals(2)),
    Recorded("SSIM", "ssim", decimals(4)),
    Recorded("total loss", "loss", decimals(4)),
    Recorded("codebook loss", "codebook_loss", decimals(4)),
    Recorded("commitment loss", "commitment_loss", decimals(4)),
    Recorded("perplexity", "perplexity", decimals(1)),
    Recorded("usage", "usage", percent),
    Recorded("bits per image", "bits_per_image", decimals(0)),
)


def final(result: Result) -> Table:
    """The last and the best model of the long run, fully evaluated."""
    best = result.measured["best"]["metrics"]
    rows = [
        (m.name, m.text(result.metric(m.key)), m.text(number(best.get(m.key))))
        for m in _FINAL_METRICS
    ]
    epochs = result.run.config.training.epochs
    return Table(
        "The final model, test split",
        ("metric", f"last (epoch {epochs})", f"best (epoch {best_epoch(result)})"),
        tuple(rows),
        "Best: the epoch with the lowest total loss on this test split, as in the paper's script. "
        "The selection makes its metrics slightly optimistic; the last model is not selected.",
    )


def best_epoch(result: Result) -> int:
    """The epoch, from 1, with the lowest total loss on the test split."""
    tested_epochs = [e for e in result.record.epochs if e.test]
    return min(tested_epochs, key=lambda e: e.test.get("loss", math.nan)).number


def _beside(label: str, result: Result, epoch: int, printed: Losses) -> list[tuple[str, ...]]:
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


def _compared(metric: Recorded, printed: Losses, value: float) -> tuple[str, str, str]:
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
