"""The paper's claims, each weighed against what was measured. Pure: results to sentences.

A verdict is computed from the records alone: other records, another verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Literal, NamedTuple

from rotvq.run_record import lookup
from rotvq.studies.milestones import RECONSTRUCTIONS, milestone
from rotvq.studies.paper import paper
from rotvq.studies.paper.results import Result, Results
from rotvq.studies.paper.studies import BETAS, SIZES
from rotvq.studies.paper.tables import (
    MISSING,
    best_epoch,
    decimals,
    number,
    percent,
    ratio,
)

Holds = Literal["confirmed", "confirmed in part", "not confirmed", "open"]


_whole, _four, _five = decimals(0), decimals(4), decimals(5)


class Verdict(NamedTuple):
    """A claim, whether it holds here, and the numbers that say so."""

    claim: str
    holds: Holds
    text: str


def training(result: Result) -> list[Verdict]:
    """On the base model."""
    claim = "Training lowers total and reconstruction loss and raises perplexity."
    epochs = len(result.record.epochs)
    if epochs < 2:
        return [open_(claim, "two epochs or more")]
    names = ("total loss", "reconstruction loss", "perplexity (mean over batches)")
    keys = ("loss", "reconstruction_loss", "batch_perplexity")
    ends = {key: (result.train(key, 0), result.train(key)) for key in keys}
    better = [ends[key][1] < ends[key][0] for key in keys[:2]]
    better.append(ends["batch_perplexity"][1] > ends["batch_perplexity"][0])
    moved = ", ".join(
        f"{name} {_significant(first)} → {_significant(last)}"
        for name, (first, last) in zip(names, ends.values(), strict=True)
    )
    return [
        Verdict(
            claim,
            how_many(better),
            f"From the first to the last of {epochs} epochs on the training "
            f"split: {moved}. The paper: total 0.1000 → 0.0451, reconstruction 0.0433 → 0.0077, "
            "perplexity 18 → 318 over 100 epochs.",
        )
    ]


def table2(results: Results) -> list[Verdict]:
    """On the size of the codebook."""
    most = (
        "K = 512 uses the most codes: its perplexity (431) is above that of 256, 1024 and 2048 "
        "(318 each)."
    )
    same = "Small, large and extra-large codebooks reach the same reconstruction loss (0.0077)."
    found = {k: runs for k in SIZES if (runs := results.of("table2", f"k_{k}"))}
    if len(found) < len(SIZES):
        verdicts = [open_(claim, "all four sizes") for claim in (most, same)]
    else:
        verdicts = [_most(most, found), _same(same, found)]
    return [*verdicts, *([_level(found[1024])] if 1024 in found else [])]


def _most(claim: str, found: Mapping[int, Sequence[Result]]) -> Verdict:
    perplexities = {k: _trained(runs, "batch_perplexity") for k, runs in found.items()}
    above = all(perplexities[512] > p for k, p in perplexities.items() if k != 512)
    measured = ", ".join(f"{_whole(p)} at K = {k}" for k, p in perplexities.items())
    usage = "; ".join(
        f"K = {k}: {_whole(_mean(runs, 'codes_used'))} codes used, perplexity "
        f"{_whole(_mean(runs, 'perplexity'))}, MSE {_four(_mean(runs, 'mse'))}"
        for k, runs in found.items()
    )
    return Verdict(
        claim,
        "confirmed" if above else "not confirmed",
        f"Perplexity here, as the mean over training batches: {measured}. On the test split: "
        f"{usage} (means of {seeds(*found.values())}). A perplexity of 318 is beyond what 256 "
        "codes can reach at all: the paper's row for K = 256 must be another size's.",
    )


def _same(claim: str, found: Mapping[int, Sequence[Result]]) -> Verdict:
    losses = {k: _trained(runs, "reconstruction_loss") for k, runs in found.items()}
    three = [losses[k] for k in (256, 1024, 2048)]
    apart = 1 - ratio(min(three), max(three))
    measured = ", ".join(f"{_four(loss)} at K = {k}" for k, loss in losses.items())
    return Verdict(
        claim,
        "confirmed" if apart < 0.02 else "not confirmed",
        f"Training reconstruction loss: {measured} (means of {seeds(*found.values())}). The best "
        f"of the three is {percent(apart)} below the worst.",
    )


def table3(results: Results) -> list[Verdict]:
    """On the weight of the commitment loss."""
    claims = (
        "Lower β, more perplexity.",
        "Higher β, lower codebook loss.",
        "Lower β reconstructs better (0.0094 on test at β = 0.1, 0.0114 at 2).",
    )
    found = {beta: runs for beta in BETAS if (runs := results.of("table3", f"beta_{beta}"))}
    if len(found) < 2:
        return [open_(claim, "two values of β or more") for claim in claims]

    def series(
        value: Callable[[Sequence[Result]], float], text: Callable[[float], str]
    ) -> tuple[list[float], str]:
        values = [value(runs) for runs in found.values()]
        pairs = zip(found, values, strict=True)
        return values, ", ".join(f"{text(v)} at {beta:g}" for beta, v in pairs)

    train, train_text = series(lambda runs: _trained(runs, "perplexity"), _whole)
    test, test_text = series(lambda runs: _mean(runs, "perplexity"), _whole)
    codebook, codebook_text = series(lambda runs: _trained(runs, "codebook_loss"), _four)
    mse, mse_text = series(lambda runs: _mean(runs, "mse"), _four)
    best = list(found)[mse.index(min(mse))]
    return [
        Verdict(
            claims[0],
            _falls([train, test]),
            f"Perplexity of the training split: {train_text}; of the test split: {test_text}. The "
            "paper: 629 at 0.1 to 117 at 2.",
        ),
        Verdict(
            claims[1],
            _falls([codebook]),
            f"Training codebook loss: {codebook_text}. The paper: 0.0636 at 0.1 to 0.0053 at 2. It "
            "is in the units of each run's own latents, which β shrinks: less of it is no better "
            "image.",
        ),
        Verdict(
            claims[2],
            _falls([[-v for v in mse]]),
            f"Test MSE: {mse_text}; least at β = {best:g} (means of {seeds(*found.values())}).",
        ),
    ]


def figures(result: Result) -> list[Verdict]:
    """On reconstructions, codebook and gradients over training."""
    sharper = "Reconstructions become sharper through training (Figures 1 to 5)."
    into_use = "The codebook organises itself and its vectors come into use (Figures 6 to 8)."
    epochs = result.run.config.training.epochs
    at = {milestone(e, epochs) for e in RECONSTRUCTIONS}
    errors = [
        (e.number, e.test.get("reconstruction_loss", math.nan))
        for e in result.record.epochs
        if e.number in at and e.test
    ]
    # In a short run two of the paper's epochs may be one.
    maps = {m["epoch"]: m["uses"] for m in result.measured["tsne"]["epochs"]}
    dead = [(epoch, sum(use == 0 for use in uses), len(uses)) for epoch, uses in maps.items()]
    shown = ", ".join(f"{_four(error)} after {number}" for number, error in errors)
    counts = ", ".join(f"{n} of {k} after epoch {epoch}" for epoch, n, k in dead)
    return [
        Verdict(
            sharper,
            _falls([[error for _, error in errors]]),
            f"Test MSE at the epochs shown: {shown} of {epochs}.",
        )
        if len(errors) > 1
        else open_(sharper, "two tested epochs or more"),
        Verdict(
            into_use,
            _falls([[n for _, n, _ in dead]]),
            f"Codes that no token of 1,024 test images uses: {counts}. t-SNE shows neighbourhoods, "
            "not distances: a dead code's place says nothing.",
        )
        if len(dead) > 1
        else open_(into_use, "two epochs or more"),
    ]


def final(result: Result) -> list[Verdict]:
    """On the long run."""
    best = result.measured["best"]["metrics"]
    epoch, epochs = best_epoch(result), result.run.config.training.epochs
    usage = result.metric("usage")
    return [
        Verdict(
            "Rotation and EMA keep the codebook from collapsing.",
            "confirmed" if usage > 0.9 else "confirmed in part" if usage > 0.5 else "not confirmed",
            f"After {epochs} epochs {_whole(result.metric('codes_used'))} of "
            f"{result.run.config.quantizer.codebook_size} codes are in use on the test split "
            f"({percent(usage)}), perplexity {_whole(result.metric('perplexity'))}. The paper's "
            "own release ends with 40.8 % in use.",
        ),
        Verdict(
            "The last model is the best one.",
            "confirmed" if epoch == epochs else "not confirmed",
            f"The least total loss on the test split is that of epoch {epoch} of {epochs}: MSE "
            f"{_five(number(best.get('mse')))} there, {_five(result.metric('mse'))} at the end.",
        ),
    ]


def _level(runs: Sequence[Result]) -> Verdict:
    large = runs[0]
    config = large.run.config
    measured = _trained(runs, "reconstruction_loss")
    images = number(lookup(large.record.run, "data.train.images"))
    return Verdict(
        "A reconstruction loss of 0.0077 at 640 bits an image.",
        "confirmed" if measured <= paper.TABLE2[1024]["reconstruction_loss"] else "not confirmed",
        f"{_four(measured)} here, with {config.training.epochs} epochs of "
        f"{_whole(images)} images at width {config.model.width}, and exact codes to the decoder. "
        "The paper's decoder also receives ‖z_e‖ of every token, so its number is not one of 640 "
        "bits (the estimators' study shows the size of that leak); the rate-distortion bound of a "
        "Gaussian with CIFAR-10's covariance is 0.0100.",
    )


def mean(runs: Sequence[Result], value: Callable[[Result], float]) -> float:
    """Over some runs."""
    return fmean(map(value, runs))


def _mean(runs: Sequence[Result], metric: str) -> float:
    return mean(runs, lambda r: r.metric(metric))


def _trained(runs: Sequence[Result], metric: str) -> float:
    """Of the last epoch on the training split."""
    return mean(runs, lambda r: r.train(metric))


def seeds(*groups: Sequence[Result]) -> str:
    """How many, in words."""
    fewest, most = min(map(len, groups)), max(map(len, groups))
    return f"{fewest} seed{'s' * (fewest != 1)}" if fewest == most else f"{fewest} to {most} seeds"


def _significant(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4g}"


def _falls(series: Sequence[Sequence[float]]) -> Holds:
    """Confirmed if every series falls at each step, in part if its end is below its start.

    What has come down to 0 may stay there.
    """
    if all(a > b or a == b == 0 for values in series for a, b in pairwise(values)):
        return "confirmed"
    ends = all(values[-1] < values[0] for values in series)
    return "confirmed in part" if ends else "not confirmed"


def how_many(parts: Sequence[bool]) -> Holds:
    """Confirmed if all parts hold, in part if some do."""
    if all(parts):
        return "confirmed"
    return "confirmed in part" if any(parts) else "not confirmed"


def open_(claim: str, needed: str) -> Verdict:
    """Of a claim that nothing measured speaks of yet."""
    return Verdict(claim, "open", f"Not measured yet: it needs {needed}.")
