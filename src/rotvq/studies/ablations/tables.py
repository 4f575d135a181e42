"""Tables of our ablations. Pure: results to texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from rotvq.run_record import lookup
from rotvq.studies.ablations.studies import BASELINE, STUDIES
from rotvq.studies.curves import GUIDANCE, TEMPERATURES, curve
from rotvq.studies.results import Result, Results
from rotvq.studies.table import (
    Metric,
    Table,
    classified,
    decimals,
    number,
    percent,
    ratio,
    spread,
    tested,
)

MSE = decimals(5)
_NOTE = (
    "Mean ± standard deviation over the seeds. Validation: training images held out, on which "
    "choices are made. All other metrics are of the whole test split, of images decoded from their "
    "indices alone. PSNR: of the mean MSE, and the mean of each image's own. Minutes: training "
    "time on the machine named below, which other work may have shared."
)


def thousandths(mse: float) -> str:
    """An MSE for a narrow column: 12.37 for 0.01237."""
    return decimals(2)(1000 * mse)


def validation(result: Result) -> float:
    """Mean squared error on the images held out, after the last epoch."""
    return result.record.epochs[-1].test.get("reconstruction_loss", math.nan)


def bound(result: Result) -> float:
    """The Gaussian rate–distortion bound; nan where it was not measured."""
    return number(lookup(result.measured.get("bound", {}), "metrics.gaussian_distortion"))


def _parameters(result: Result) -> float:
    """Weights of the network, without an EMA codebook."""
    return number(lookup(result.record.run, "model.parameters"))


_TEST_MSE = tested("test MSE, ×1000", "mse", thousandths)
_SSIM = tested("SSIM", "ssim", decimals(3))
_USE = (tested("usage", "usage", percent), tested("perplexity", "perplexity", decimals(0)))
_QUALITY = (
    tested("PSNR, dB", "psnr", decimals(2)),
    tested("per-image PSNR, dB", "psnr_per_image", decimals(2)),
    _SSIM,
    *_USE,
)
_MINUTES = Metric("minutes", lambda result: result.minutes, decimals(1))
FRECHET = classified("Fréchet distance", "frechet_distance", decimals(2), higher=False)
_SHARP = (
    FRECHET,
    classified("accuracy", "accuracy_reconstruction", percent),
    classified("agreement", "agreement", percent),
    tested("sharpness", "sharpness", decimals(2)),
    _SSIM,
    _TEST_MSE,
    *_USE,
    _MINUTES,
)
_VALIDATION = Metric("validation MSE, ×1000", validation, thousandths)
_COLUMNS = (
    _TEST_MSE,
    *_QUALITY,
    Metric("parameters", _parameters, decimals(0)),
    _MINUTES,
)


def tables(study: str, results: Results) -> tuple[Table, ...]:
    """The tables of a study that has a finished run."""
    match study:
        case "steps":
            return (steps(results),)
        case "options":
            return (options(results),)
        case "codebooks":
            return (codebooks(results),)
        case "best":
            return (best(results),)
        case "sharp":
            return (sharp(results),)
        case "priors":
            return (priors(results), samples(results))
    return ()


def steps(results: Results) -> Table:
    """A step per row, with its improvement over the step before."""
    rows: list[tuple[str, ...]] = []
    before: Sequence[Result] = ()
    for at, step in enumerate(STUDIES["steps"].variants):
        runs = results.of("steps", step.name)
        if runs:
            row = f"+ {step.label}" if at else step.label
            rows.append((row, *_cells(runs, _improvement(runs, before))))
        before = runs
    return Table(
        "Steps",
        ("step", *_columns("improvement")),
        tuple(rows),
        "Each step keeps the changes above it. Improvement: by how much the validation MSE is "
        f"lower than one step above. {_NOTE}",
    )


def options(results: Results) -> Table:
    """An option per row, each added alone to the baseline, which is the first row."""
    baseline = results.of("steps", BASELINE)
    rows = [
        (label, *_cells(runs, _improvement(runs, baseline)))
        for label, runs in results.rows("options").items()
    ]
    if baseline:
        rows.insert(0, ("none", *_cells(baseline, "")))
    return Table(
        "Options",
        ("option", *_columns("improvement")),
        tuple(rows),
        "Improvement: by how much the validation MSE is lower than without the option, over the "
        f"seeds that both have. {_NOTE}",
    )


def codebooks(results: Results) -> Table:
    """A codebook size per row, with the Gaussian bound at the same bits."""
    columns = (
        tested("bits per image", "bits_per_image", decimals(0)),
        tested("test MSE", "mse", MSE),
        Metric("Gaussian bound", bound, MSE),
        *_QUALITY,
        _MINUTES,
    )
    rows = [(label, *_texts(runs, columns)) for label, runs in results.rows("codebooks").items()]
    return Table(
        "Large codebooks",
        ("codebook", *(m.name for m in columns)),
        tuple(rows),
        "Gaussian bound: the lowest MSE of any code with this many bits for a Gaussian source with "
        "the covariance of the training images (reverse water-filling). Images are not Gaussian, "
        "so a code may fall below it. PSNR: of the mean MSE, and the mean of each image's own. "
        "Usage and perplexity: on the test split.",
    )


def best(results: Results) -> Table:
    """All steps together and plain straight-through, at equal training time."""
    both = {**results.rows("best"), **results.rows("plain")}
    rows = tuple((label, *_cells(runs)) for label, runs in both.items())
    return Table("Half an hour", ("recipe", *_columns()), rows, _NOTE)


def sharp(results: Results) -> Table:
    """Codebook, losses and estimator per row, with what a classifier sees."""
    rows = tuple(
        (label, *_texts(runs, _SHARP), str(len(runs)))
        for label, runs in results.rows("sharp").items()
    )
    return Table(
        "Sharp pictures",
        ("codebook, losses, estimator", *(m.name for m in _SHARP), "seeds"),
        rows,
        "Mean ± standard deviation over the seeds, on the whole test split, of images decoded from "
        "their indices alone. Adversarial: with the perceptual loss too. Fréchet distance, "
        "accuracy and agreement are measured with another classifier than the one of the "
        "perceptual loss, of another seed and width; the distance is not FID. Sharpness: "
        "energy of the differences between neighboring pixels, 1 as in the originals.",
    )


def modeled(name: str, key: str, text: Callable[[float], str], *, higher: bool = True) -> Metric:
    """A metric of the prior over a run's tokens, by its key in the record."""

    def value(result: Result) -> float:
        metrics = lookup(result.measured.get("generation", {}), "metrics")
        return number(metrics.get(key)) if isinstance(metrics, Mapping) else math.nan

    return Metric(name, value, text, higher)


TOKEN_BITS = modeled("bits per token", "bits_per_token", decimals(2), higher=False)
MEAN_BITS = modeled("mean bits per image", "bits_per_image", decimals(0), higher=False)
MEAN_BOUND = modeled("Gaussian bound at mean bits", "gaussian_distortion", MSE, higher=False)
DISTANCE = modeled("Fréchet distance", "frechet_distance", decimals(1), higher=False)
OWN_CLASS = modeled("own class", "class_accuracy", percent)


def priors(results: Results) -> Table:
    """The bits of each kind of tokens, beside the error and the bound."""
    columns = (
        tested("test MSE", "mse", MSE),
        tested("perplexity", "perplexity", decimals(0)),
        modeled("fixed bits per image", "fixed_bits_per_image", decimals(0)),
        modeled("entropy of code use", "entropy_per_token", decimals(2)),
        TOKEN_BITS,
        modeled("without class", "bits_per_token_without_class", decimals(2)),
        MEAN_BITS,
        MEAN_BOUND,
        DISTANCE,
        OWN_CLASS,
        modeled("guidance", "guidance", decimals(1)),
    )
    return _by_tokens(
        "Bits and samples",
        results,
        columns,
        "Bits: code lengths on the test split, under a transformer trained on the tokens; no coder "
        "is built. Gaussian bound: the lowest MSE of any code with that many mean bits for a "
        "Gaussian source with the covariance of the training images. Fréchet distance: between "
        "samples and the test split, in the features of the project's own classifier; not FID. Own "
        "class: share of the samples that the classifier puts into the class they were drawn for. "
        "Guidance: the scale with the smallest Fréchet distance to images held out.",
    )


def samples(results: Results) -> Table:
    """Fréchet distance and classes of samples, over guidance and temperature."""
    columns = tuple(
        modeled(f"{short}, {option[0]} = {value:g}", curve(key, option, value), text)
        for short, key, text in (
            ("Fréchet", "frechet_distance", decimals(1)),
            ("own class", "class_accuracy", percent),
        )
        for option, values in (("guidance", GUIDANCE), ("temperature", TEMPERATURES))
        for value in values
    )
    return _by_tokens(
        "Guidance and temperature",
        results,
        columns,
        "g: classifier-free guidance, at temperature 1; t: temperature, without guidance. Fréchet "
        "distances to the images held out.",
    )


def _by_tokens(title: str, results: Results, columns: Sequence[Metric], note: str) -> Table:
    """A kind of tokens per row."""
    rows = tuple((label, *_texts(runs, columns)) for label, runs in results.rows("priors").items())
    return Table(title, ("tokens", *(m.name for m in columns)), rows, note)


def paired(
    runs: Sequence[Result],
    before: Sequence[Result],
    value: Callable[[Result], float] = validation,
) -> list[tuple[float, float]]:
    """A value of both, as the validation MSE, at the seeds that both have."""
    others = {r.run.seed: value(r) for r in before}
    return [(value(r), others[r.run.seed]) for r in runs if r.run.seed in others]


def _columns(*improvement: str) -> tuple[str, ...]:
    return (_VALIDATION.name, *improvement, *(m.name for m in _COLUMNS), "seeds")


def _cells(runs: Sequence[Result], *improvement: str) -> tuple[str, ...]:
    held, *cells = _texts(runs, (_VALIDATION, *_COLUMNS))
    return (held, *improvement, *cells, str(len(runs)))


def _texts(runs: Sequence[Result], columns: Sequence[Metric]) -> tuple[str, ...]:
    """A cell for each metric."""
    return tuple(_spread([m.value(r) for r in runs], m.text) for m in columns)


def _spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    """The spread, unless it is not visible at this precision: columns are narrow."""
    return text(values[0]) if len(set(map(text, values))) == 1 else spread(values, text)


def _improvement(runs: Sequence[Result], before: Sequence[Result]) -> str:
    """By how much the validation MSE is lower, over the seeds that both have."""
    pairs = paired(runs, before)
    if not pairs:
        return ""
    lower = 100 * (1 - fmean(ratio(a, b) for a, b in pairs))
    return f"{lower:.1f} %".replace("-", "−")
