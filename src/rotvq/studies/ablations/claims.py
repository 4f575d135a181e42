"""Which changes lower the error, and how far the best recipe gets. Pure: results to sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, product
from statistics import fmean

from rotvq.studies.ablations.studies import (
    BASELINE,
    SHARP_CODEBOOKS,
    SHARP_ESTIMATORS,
    SHARP_LOSSES,
    STRAIGHT_THROUGH,
    STUDIES,
    Part,
    sharp_name,
)
from rotvq.studies.ablations.tables import (
    DISTANCE,
    FRECHET,
    MEAN_BOUND,
    MSE,
    TOKEN_BITS,
    bound,
    modeled,
    paired,
    validation,
)
from rotvq.studies.claim import Claim, compare, mean, mean_tested, open_claim, seeds, verdict
from rotvq.studies.curves import GUIDANCE, curve
from rotvq.studies.results import Result, Results
from rotvq.studies.table import Metric, decimals, percent, ratio
from rotvq.text import counted

SHARES = (0.7, 0.55)
"""Shares of plain straight-through's error at equal training time: required, and aimed at."""

VALIDATION = Metric("validation MSE", validation, MSE)

Rows = Mapping[str, Sequence[Result]]
"""Runs by the label of their variant."""

SEEDS = 3
"""Seeds required to confirm that one recipe beats another."""


def claims(study: str, results: Results) -> tuple[Claim, ...]:
    """The claims that a study with a finished run addresses."""
    match study:
        case "steps":
            return tuple(steps(results))
        case "options":
            return (*options(results), normalized_latents(results))
        case "codebooks":
            return codebooks(results)
        case "best":
            return tuple(best(results))
        case "sharp":
            return tuple(sharp(results))
        case "priors":
            return tuple(priors(results))
    return ()


def steps(results: Results) -> list[Claim]:
    """On each step, against the one before it."""
    family = "Step by step, the validation MSE falls with"
    found = [(v.label, results.of("steps", v.name)) for v in STUDIES["steps"].variants]
    return [
        _lowers(label, runs, before, family=family)
        for (_, before), (label, runs) in pairwise(found)
        if runs
    ]


def options(results: Results) -> list[Claim]:
    """On each option, against the step without it."""
    baseline = results.of("steps", BASELINE)
    return [_lowers(label, runs, baseline) for label, runs in results.rows("options").items()]


def normalized_latents(results: Results) -> Claim:
    """On the source of the perplexity that rotation and normalized latents reach together."""
    statement = "Normalized latents raise perplexity; the rotation does not."
    straight = results.of("steps", BASELINE), results.of("options", "normalized_latents")
    names = ("rotation", "rotation_normalized_latents")
    rotation = tuple(results.of("options", name) for name in names)
    if not all((*straight, *rotation)):
        return open_claim(statement, "both estimators, with and without normalized latents")
    groups = (*straight, *rotation)
    (plain, normalized), (alone, together) = (
        [mean_tested(runs, "perplexity") for runs in pair] for pair in (straight, rotation)
    )
    text = decimals(0)
    return Claim(
        statement,
        verdict([normalized > plain, together > alone, alone <= plain, together <= normalized]),
        f"Perplexity with straight-through: {text(plain)}, with normalized latents "
        f"{text(normalized)}; with rotation: {text(alone)}, with normalized latents "
        f"{text(together)} (means over {seeds(*groups)}).",
    )


def codebooks(results: Results) -> tuple[Claim, ...]:
    """On large codebooks."""
    found = list(results.rows("codebooks").values())
    used = (
        "More than 99 % of the codes are in use with 8,192 and 16,384 codes, and more than 95 % "
        "with 65,536."
    )
    falls = "The error falls as the codebook grows."
    below = "The error is below the bound of a Gaussian source at the same bits."
    if len(found) < 2:
        return tuple(open_claim(claim, "at least two sizes") for claim in (used, falls, below))
    errors = [mean_tested(runs, "mse") for runs in found]
    usage = [mean_tested(runs, "usage") for runs in found]
    large = [
        share > (0.95 if _size(runs) > 16384 else 0.99)
        for runs, share in zip(found, usage, strict=True)
        if _size(runs) >= 8192
    ]
    bounds = [bound(runs[0]) for runs in found]
    return (
        Claim(used, verdict(large), _series(found, map(percent, usage)))
        if large
        else open_claim(used, "a codebook of at least 8,192 codes"),
        Claim(
            falls,
            verdict([a > b for a, b in pairwise(errors)]),
            _series(found, map(MSE, errors)),
        ),
        Claim(
            below,
            verdict([error < limit for error, limit in zip(errors, bounds, strict=True)]),
            _series(
                found,
                (f"{MSE(e)} (bound {MSE(b)})" for e, b in zip(errors, bounds, strict=True)),
            ),
        ),
    )


def best(results: Results) -> list[Claim]:
    """On the best recipe, against plain straight-through at equal training time."""
    ours, plain = results.of("best"), results.of("plain")
    family = "Test MSE of the best recipe, as a share of plain straight-through's"
    if plain:
        errors, others = ([r.metric("mse") for r in runs] for runs in (ours, plain))
        share = ratio(fmean(errors), fmean(others))
        evidence = (
            f"Test MSE {MSE(fmean(errors))} vs. {MSE(fmean(others))}, {decimals(2)(share)} times "
            f"as much (means over {seeds(ours, plain)}). Confirmed only if the worst seed of the "
            "best recipe is below that share of straight-through's best seed."
        )
    found = [
        Claim(
            f"{family}: below {most}.",
            verdict([max(errors) < most * min(others)]),
            evidence,
            family,
            f"below {most}",
        )
        if plain
        else open_claim(f"{family}: below {most}.", "plain straight-through")
        for most in SHARES
    ]
    perplexity, usage = (mean_tested(ours, metric) for metric in ("perplexity", "usage"))
    found.append(
        Claim(
            "All codes are in use, with a perplexity above 950 of 1,024.",
            verdict([usage == 1, perplexity > 950]),
            f"Usage {percent(usage)}, perplexity {decimals(0)(perplexity)} ({seeds(ours)}).",
        )
    )
    return found


def sharp(results: Results) -> list[Claim]:
    """On the losses, and on the rotation with each of them."""
    codes, straight = SHARP_CODEBOOKS[0], SHARP_ESTIMATORS[0]
    mse, *others = (_sharp(results, codes, losses, straight) for losses in SHARP_LOSSES)
    found = [
        _lowers(f"{losses.label} ({straight.label}, {codes.label})", runs, mse, FRECHET)
        for losses, runs in zip(SHARP_LOSSES[1:], others, strict=True)
    ]
    for codes, losses in product(SHARP_CODEBOOKS, SHARP_LOSSES):
        before, *rotations = (_sharp(results, codes, losses, e) for e in SHARP_ESTIMATORS)
        for estimator, runs in zip(SHARP_ESTIMATORS[1:], rotations, strict=True):
            label = f"{estimator.label} ({losses.label}, {codes.label})"
            found.append(_lowers(label, runs, before, FRECHET))
    return found


def _sharp(results: Results, *parts: Part) -> tuple[Result, ...]:
    return results.of("sharp", sharp_name(*parts))


def priors(results: Results) -> list[Claim]:
    """On the bits of tokens, and on samples."""
    rows = results.rows("priors")
    size = _size(next(iter(rows.values())))
    equal = {label: runs for label, runs in rows.items() if _size(runs) == size}
    plain = results.of("priors", STRAIGHT_THROUGH)
    fewer = [
        _fewer_bits(label, runs, plain)
        for label, runs in equal.items()
        if runs[0].run.variant.name != STRAIGHT_THROUGH
    ]
    return [*fewer, _below_the_bound(rows), _best_generates_best(equal), _guided(rows)]


def _fewer_bits(label: str, runs: Sequence[Result], plain: Sequence[Result]) -> Claim:
    statement = f"Tokens take fewer bits than with straight-through: {label}."
    if not plain:
        return open_claim(statement, "straight-through")
    return compare(statement, (label, "straight-through"), (runs, plain), [TOKEN_BITS])


def _below_the_bound(rows: Rows) -> Claim:
    pairs = [(mean_tested(runs, "mse"), mean(runs, MEAN_BOUND.value)) for runs in rows.values()]
    texts = (f"{MSE(e)} (bound {MSE(b)})" for e, b in pairs)
    return Claim(
        "The error is below the bound of a Gaussian source at the mean bits.",
        verdict([error < bound for error, bound in pairs]),
        _series([*rows.values()], texts),
    )


def _best_generates_best(rows: Rows) -> Claim:
    statement = "Of tokenizers with as many codes, the one with the smallest error generates best."
    equal = list(rows.values())
    distances = [mean(runs, DISTANCE.value) for runs in equal]
    if len(equal) < 2 or not all(map(math.isfinite, distances)):
        return open_claim(statement, "samples of at least two of them")
    errors = [mean_tested(runs, "mse") for runs in equal]
    pairs = zip(errors, distances, strict=True)
    return Claim(
        statement,
        verdict([errors.index(min(errors)) == distances.index(min(distances))]),
        _series(equal, (f"MSE {MSE(e)}, Fréchet distance {DISTANCE.text(d)}" for e, d in pairs)),
    )


def _guided(rows: Rows) -> Claim:
    statement = "Guidance lowers the Fréchet distance, and more samples are of their class."
    points = {
        key: [
            [mean(runs, modeled("", curve(key, "guidance", g), MSE).value) for g in GUIDANCE]
            for runs in rows.values()
        ]
        for key in ("frechet_distance", "class_accuracy")
    }
    distances, shares = points.values()
    if not all(math.isfinite(value) for line in (*distances, *shares) for value in line):
        return open_claim(statement, "samples of images with labels")
    lower = [min(line[1:]) < line[0] for line in distances]
    more = [max(line[1:]) > line[0] for line in shares]
    texts = (
        f"Fréchet distance {DISTANCE.text(d[0])} without, {DISTANCE.text(min(d[1:]))} with; own "
        f"class {percent(s[0])} and up to {percent(max(s[1:]))}"
        for d, s in zip(distances, shares, strict=True)
    )
    return Claim(statement, verdict([*lower, *more]), _series([*rows.values()], texts))


def _lowers(
    label: str,
    runs: Sequence[Result],
    before: Sequence[Result],
    metric: Metric = VALIDATION,
    family: str = "",
) -> Claim:
    family = family or f"The {metric.name} falls with"
    statement = f"{family} {label}."
    pairs = paired(runs, before, metric.value)
    if not pairs:
        claim = open_claim(statement, "runs without this change at the same seeds")
        return claim._replace(family=family, member=label)
    lower = [a < b for a, b in pairs]
    after, until = (fmean(values) for values in zip(*pairs, strict=True))
    at_every_seed = all(lower) and len(lower) >= SEEDS
    return Claim(
        statement,
        verdict([after < until, after < until and at_every_seed]),
        f"{metric.name[:1].upper()}{metric.name[1:]} {metric.text(after)} vs. {metric.text(until)} "
        f"without it; lower for {sum(lower)} of {counted(len(lower), 'seed')}.",
        family,
        label,
    )


def _size(runs: Sequence[Result]) -> int:
    return runs[0].run.config.quantizer.codebook_size


def _series(found: Sequence[Sequence[Result]], texts: Iterable[str]) -> str:
    labels = (runs[0].run.variant.label for runs in found)
    return "; ".join(f"{label}: {text}" for label, text in zip(labels, texts, strict=True)) + "."
