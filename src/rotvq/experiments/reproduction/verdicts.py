"""The paper's claims, each weighed against what was measured. Pure: results to sentences.

A verdict is computed from the records alone: other records, another verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Literal, NamedTuple

from rotvq.experiments.milestones import RECONSTRUCTIONS, milestone
from rotvq.experiments.reproduction import paper
from rotvq.experiments.reproduction.results import Result, Results
from rotvq.experiments.reproduction.tables import best_epoch, number, percent
from rotvq.experiments.studies import BETAS, SIZES

Holds = Literal["confirmed", "confirmed in part", "not confirmed", "open"]


class Verdict(NamedTuple):
    """A claim, whether it holds here, and the numbers that say so."""

    claim: str
    holds: Holds
    text: str


def training(result: Result) -> list[Verdict]:
    """On the base model."""
    first, last = result.record.epochs[0].train, result.record.epochs[-1].train
    better = [last[m] < first[m] for m in ("loss", "reconstruction_loss")]
    better.append(last["batch_perplexity"] > first["batch_perplexity"])
    names = ("total loss", "reconstruction loss", "perplexity (mean over batches)")
    keys = ("loss", "reconstruction_loss", "batch_perplexity")
    moved = ", ".join(
        f"{name} {first[key]:.4g} → {last[key]:.4g}" for name, key in zip(names, keys, strict=True)
    )
    return [
        Verdict(
            "Training lowers total and reconstruction loss and raises perplexity.",
            _how_many(better),
            f"From the first to the last of {len(result.record.epochs)} epochs on the training "
            f"split: {moved}. The paper: total 0.1000 → 0.0451, reconstruction 0.0433 → 0.0077, "
            "perplexity 18 → 318 over 100 epochs.",
        )
    ]


def table2(results: Results) -> list[Verdict]:
    """On the size of the codebook."""
    found = {k: r for k in SIZES for r in results.of("table2", f"k_{k}")}
    if len(found) < 2:
        return [_open("The size of the codebook matters little.", "two sizes or more")]
    losses = {k: r.train("reconstruction_loss") for k, r in found.items()}
    perplexities = {k: r.train("batch_perplexity") for k, r in found.items()}
    usage = "; ".join(
        f"K = {k}: {r.metric('codes_used'):.0f} codes used, perplexity "
        f"{r.metric('perplexity'):.0f}, MSE {r.metric('mse'):.4f}"
        for k, r in found.items()
    )
    most = max(perplexities, key=perplexities.__getitem__)
    least = min(losses, key=losses.__getitem__)
    gain = 1 - losses[least] / max(losses.values())
    verdicts = [
        Verdict(
            "K = 512 uses the most codes: its perplexity (431) is above that of 256, 1024 and "
            "2048 (318 each).",
            "confirmed" if most == 512 else "not confirmed",
            f"Here K = {most} has the highest perplexity ({perplexities[most]:.0f} as the mean "
            f"over training batches). On the test split: {usage}. A perplexity of 318 is beyond "
            "what 256 codes can reach at all: the paper's row for K = 256 must be another size's.",
        ),
        Verdict(
            "Small, large and extra-large codebooks reach the same reconstruction loss (0.0077).",
            "confirmed" if gain < 0.02 else "not confirmed",
            f"The training reconstruction loss goes from {max(losses.values()):.4f} to "
            f"{losses[least]:.4f}, best at K = {least}: {percent(gain)} between them, with one "
            "seed each.",
        ),
    ]
    large = found.get(1024)
    if large:
        verdicts.append(_level(large))
    return verdicts


def table3(results: Results) -> list[Verdict]:
    """On the weight of the commitment loss."""
    found = {beta: r for beta in BETAS for r in results.of("table3", f"beta_{beta}")}
    lower_b, higher_b = "Lower β, more perplexity.", "Higher β, lower codebook loss."
    if len(found) < 2:
        return [_open(claim, "two values of β or more") for claim in (lower_b, higher_b)]

    def series(value: Callable[[Result], float], digits: int) -> tuple[list[float], str]:
        values = [value(r) for r in found.values()]
        pairs = zip(found, values, strict=True)
        return values, ", ".join(f"{v:.{digits}f} at {beta:g}" for beta, v in pairs)

    train, train_text = series(lambda r: r.train("perplexity"), 0)
    test, test_text = series(lambda r: r.metric("perplexity"), 0)
    codebook, codebook_text = series(lambda r: r.train("codebook_loss"), 4)
    mse, mse_text = series(lambda r: r.metric("mse"), 4)
    best = list(found)[mse.index(min(mse))]
    return [
        Verdict(
            lower_b,
            _falls([train, test]),
            f"Perplexity of the training split: {train_text}; of the test split: {test_text}. The "
            "paper: 629 at 0.1 to 117 at 2.",
        ),
        Verdict(
            higher_b,
            _falls([codebook]),
            f"Training codebook loss: {codebook_text}. The paper: 0.0636 at 0.1 to 0.0053 at 2. It "
            "is in the units of each run's own latents, which β shrinks: less of it is no better "
            "image.",
        ),
        Verdict(
            "Lower β reconstructs better (0.0094 on test at β = 0.1, 0.0114 at 2).",
            _falls([[-v for v in mse]]),
            f"Test MSE: {mse_text}; least at β = {best:g}. One seed each.",
        ),
    ]


def figures(result: Result) -> list[Verdict]:
    """On reconstructions, codebook and gradients over training."""
    epochs = result.run.config.training.epochs
    at = {milestone(e, epochs): e for e in RECONSTRUCTIONS}
    errors = [
        (e.number, e.test["reconstruction_loss"])
        for e in result.record.epochs
        if e.number in at and e.test
    ]
    shown = ", ".join(f"{error:.4f} after {number}" for number, error in errors)
    verdicts = [
        Verdict(
            "Reconstructions become sharper through training (Figures 1 to 5).",
            _falls([[error for _, error in errors]]),
            f"Test MSE at the epochs shown: {shown} of {epochs}.",
        )
    ]
    maps = result.measured["tsne"]["epochs"]
    dead = [(m["epoch"], sum(use == 0 for use in m["uses"]), len(m["uses"])) for m in maps]
    counts = ", ".join(f"{n} of {k} after epoch {epoch}" for epoch, n, k in dead)
    verdicts.append(
        Verdict(
            "The codebook organises itself and its vectors come into use (Figures 6 to 8).",
            _falls([[n for _, n, _ in dead]]),
            f"Codes that no token of 1,024 test images uses: {counts}. t-SNE shows neighbourhoods, "
            "not distances: a dead code's place says nothing.",
        )
    )
    return verdicts


def estimators(results: Results) -> list[Verdict]:
    """On what the rotation does."""
    return [
        _against_straight_through(results, ""),
        _against_straight_through(results, "_restart"),
        _perception(results),
        _parts(results),
        _leak(results),
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
            f"After {epochs} epochs {result.metric('codes_used'):.0f} of "
            f"{result.run.config.quantizer.codebook_size} codes are in use on the test split "
            f"({percent(usage)}), perplexity {result.metric('perplexity'):.0f}. The paper's own "
            "release ends with 40.8 % in use.",
        ),
        Verdict(
            "The last model is the best one.",
            "confirmed" if epoch == epochs else "not confirmed",
            f"The least total loss on the test split is that of epoch {epoch} of {epochs}: MSE "
            f"{number(best.get('mse')):.5f} there, {result.metric('mse'):.5f} at the end.",
        ),
    ]


def _level(large: Result) -> Verdict:
    config = large.run.config
    measured = large.train("reconstruction_loss")
    return Verdict(
        "A reconstruction loss of 0.0077 at 640 bits an image.",
        "confirmed" if measured <= paper.TABLE2[1024]["reconstruction_loss"] else "not confirmed",
        f"{measured:.4f} here, with {config.training.epochs} epochs of "
        f"{large.record.run['data']['train']['images']:,} images at width {config.model.width}, "
        "and exact codes to the decoder. The paper's decoder also receives ‖z_e‖ of every token, "
        "so its number is not one of 640 bits (the estimators' study shows the size of that leak); "
        "the rate-distortion bound of a Gaussian with CIFAR-10's covariance is 0.0100.",
    )


def _against_straight_through(results: Results, suffix: str) -> Verdict:
    setting = "with restart of dead codes" if suffix else "without restart"
    claim = f"Rotation raises perplexity and usage over straight-through ({setting})."
    pair = _pair(results, "rotation" + suffix, "straight_through" + suffix)
    if pair is None:
        return _open(claim, "both estimators")
    rotation, straight = pair
    holds = _how_many([_above(rotation, straight, m) for m in ("perplexity", "usage")])
    return Verdict(
        claim,
        holds,
        f"Perplexity {_mean(rotation, 'perplexity'):.0f} against "
        f"{_mean(straight, 'perplexity'):.0f}, usage {percent(_mean(rotation, 'usage'))} against "
        f"{percent(_mean(straight, 'usage'))}, test MSE {_mean(rotation, 'mse'):.4f} against "
        f"{_mean(straight, 'mse'):.4f}; commitment loss {_mean(rotation, 'commitment_loss'):.4f} "
        f"against {_mean(straight, 'commitment_loss'):.4f} (means of {_seeds(rotation, straight)}; "
        "it holds only where every seed of one is above every seed of the other).",
    )


def _perception(results: Results) -> Verdict:
    claim = (
        "The rotation's gain is perceptual: images look more real though squared error does not "
        "fall (Fifty et al.)."
    )
    texts, better = [], []
    for suffix, setting in (("", "without restart"), ("_restart", "with restart")):
        pair = _pair(results, "rotation" + suffix, "straight_through" + suffix)
        if pair is None:
            return _open(claim, "both estimators")
        rotation, straight = pair
        better += [_above(rotation, straight, "ssim")]
        said = f"SSIM {_mean(rotation, 'ssim'):.3f} against {_mean(straight, 'ssim'):.3f}"
        if not math.isnan(rotation[0].yardstick("frechet_distance")):
            accuracy = [_yardsticks(runs, "accuracy_reconstruction") for runs in pair]
            distance = [_yardsticks(runs, "frechet_distance") for runs in pair]
            better += [min(accuracy[0]) > max(accuracy[1]), max(distance[0]) < min(distance[1])]
            said += (
                f", accuracy of the classifier {percent(fmean(accuracy[0]))} against "
                f"{percent(fmean(accuracy[1]))}, Fréchet distance of its features "
                f"{fmean(distance[0]):.2f} against {fmean(distance[1]):.2f}"
            )
        texts.append(f"{setting}: {said}")
    return Verdict(
        claim,
        _how_many(better),
        f"Rotation against straight-through, {'; '.join(texts)} (means of "
        f"{_seeds(rotation, straight)}). The classifier is the project's own; its distance is not "
        "FID.",
    )


def _parts(results: Results) -> Verdict:
    claim = "Rotation and rescaling each contribute."
    names = ("straight_through", "rescaling", "rotation_without_rescaling", "rotation")
    found = [results.of("estimators", name) for name in names]
    if not all(found):
        return _open(claim, "all four estimators")
    straight, rescaling, turning, both = (_mean(runs, "perplexity") for runs in found)
    said = ", ".join(
        f"{r[0].run.variant.label} {_mean(r, 'perplexity'):.0f} (MSE {_mean(r, 'mse'):.4f})"
        for r in found
    )
    return Verdict(
        claim,
        _how_many([rescaling > straight, turning > straight, both > max(rescaling, turning)]),
        f"Mean perplexity without restart: {said}.",
    )


def _leak(results: Results) -> Verdict:
    claim = "The published transform is a discrete code: decoding its indices gives its images."
    runs = results.of("estimators", "reflection")
    if not runs:
        return _open(claim, "the reflection")
    forward, decoded = _mean(runs, "forward_mse"), _mean(runs, "mse")
    same = abs(decoded - forward) < 1e-5 * forward
    return Verdict(
        claim,
        "confirmed" if same else "not confirmed",
        f"MSE {forward:.4f} in the forward pass, {decoded:.4f} from the indices: "
        f"{decoded / forward:.2f} times as much (means of {_seeds(runs)}). The difference is what "
        "one real number a token carries past the codebook.",
    )


def _pair(
    results: Results, one: str, other: str
) -> tuple[tuple[Result, ...], tuple[Result, ...]] | None:
    a, b = results.of("estimators", one), results.of("estimators", other)
    return (a, b) if a and b else None


def _above(a: Sequence[Result], b: Sequence[Result], metric: str) -> bool:
    """Whether every seed of one is above every seed of the other."""
    return min(r.metric(metric) for r in a) > max(r.metric(metric) for r in b)


def _mean(runs: Sequence[Result], metric: str) -> float:
    return fmean(r.metric(metric) for r in runs)


def _yardsticks(runs: Sequence[Result], metric: str) -> list[float]:
    return [r.yardstick(metric) for r in runs]


def _seeds(*groups: Sequence[Result]) -> str:
    fewest = min(map(len, groups))
    return f"{fewest} seed{'s' * (fewest != 1)}"


def _falls(series: Sequence[Sequence[float]]) -> Holds:
    """Confirmed if every series falls at each step, in part if its end is below its start."""
    if all(a > b for values in series for a, b in pairwise(values)):
        return "confirmed"
    ends = all(values[-1] < values[0] for values in series)
    return "confirmed in part" if ends else "not confirmed"


def _how_many(parts: Sequence[bool]) -> Holds:
    if all(parts):
        return "confirmed"
    return "confirmed in part" if any(parts) else "not confirmed"


def _open(claim: str, needed: str) -> Verdict:
    return Verdict(claim, "open", f"Not measured yet: it needs {needed}.")
