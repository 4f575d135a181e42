"""Claims about the estimators, weighed seed against seed. Pure: results to sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rotvq.studies.paper.results import Result, Results
from rotvq.studies.paper.tables import decimals, percent, ratio
from rotvq.studies.paper.verdicts import Verdict, how_many, mean, open_, seeds

SETTINGS = {"": "without restart of dead codes", "_restart": "with restart of dead codes"}


class Compared(NamedTuple):
    """A metric of which more, or less, is claimed."""

    name: str
    value: Callable[[Result], float]
    text: Callable[[float], str]
    more: bool = True


PERPLEXITY = Compared("perplexity", lambda r: r.metric("perplexity"), decimals(0))
USAGE = Compared("usage", lambda r: r.metric("usage"), percent)
MSE = Compared("test MSE", lambda r: r.metric("mse"), decimals(4), more=False)
COMMITMENT = Compared("commitment loss", lambda r: r.metric("commitment_loss"), decimals(4))
SSIM = Compared("SSIM", lambda r: r.metric("ssim"), decimals(3))
ACCURACY = Compared(
    "accuracy of the classifier", lambda r: r.yardstick("accuracy_reconstruction"), percent
)
FRECHET = Compared(
    "Fréchet distance of its features", lambda r: r.yardstick("frechet_distance"), decimals(2),
    more=False,
)  # fmt: skip


def estimators(results: Results) -> list[Verdict]:
    """On what the rotation does."""
    verdicts = []
    for suffix, setting in SETTINGS.items():
        verdicts += [
            _against_straight_through(results, suffix, f"{claim}, {setting}.", claimed, beside)
            for claim, claimed, beside in (
                (
                    "Rotation uses more of the codebook than straight-through",
                    (PERPLEXITY, USAGE),
                    (COMMITMENT,),
                ),
                (
                    "Rotation reconstructs with less squared error than straight-through",
                    (MSE,),
                    (),
                ),
                (
                    "Rotation's images look more real than straight-through's",
                    (SSIM, ACCURACY, FRECHET),
                    (),
                ),
            )
        ]
    return [*verdicts, _parts(results), _leak(results)]


def _against_straight_through(
    results: Results,
    suffix: str,
    claim: str,
    claimed: Sequence[Compared],
    beside: Sequence[Compared],
) -> Verdict:
    pair = _same_seeds(results, "rotation" + suffix, "straight_through" + suffix)
    if pair is None:
        return open_(claim, "both estimators")
    rotation, straight = pair
    known = [c for c in claimed if all(math.isfinite(c.value(r)) for runs in pair for r in runs)]
    if not known:
        return open_(claim, " and ".join(c.name for c in claimed))
    said = "; ".join(
        f"{c.name} {' against '.join(c.text(mean(runs, c.value)) for runs in pair)}"
        for c in (*known, *beside)
    )
    return Verdict(
        claim,
        how_many([_beyond(rotation, straight, c) for c in known]),
        f"Rotation against straight-through: {said} (means of {seeds(*pair)}; a metric counts "
        "where every seed of one is beyond every seed of the other).",
    )


def _parts(results: Results) -> Verdict:
    claim = "Rotation and rescaling each raise the perplexity."
    found = _same_seeds(
        results, "straight_through", "rescaling", "rotation_without_rescaling", "rotation"
    )
    if found is None:
        return open_(claim, "all four estimators")
    straight, rescaling, turning, both = (mean(runs, PERPLEXITY.value) for runs in found)
    said = ", ".join(
        f"{runs[0].run.variant.label} {PERPLEXITY.text(mean(runs, PERPLEXITY.value))} "
        f"(MSE {MSE.text(mean(runs, MSE.value))})"
        for runs in found
    )
    return Verdict(
        claim,
        how_many([rescaling > straight, turning > straight, both > max(rescaling, turning)]),
        f"Perplexity without restart: {said} (means of {seeds(*found)}).",
    )


def _leak(results: Results) -> Verdict:
    claim = "The published transform is a discrete code: decoding its indices gives its images."
    runs = results.of("estimators", "reflection")
    if not runs:
        return open_(claim, "the reflection")
    forward, decoded = mean(runs, lambda r: r.metric("forward_mse")), mean(runs, MSE.value)
    same = abs(decoded - forward) < 1e-5 * forward
    return Verdict(
        claim,
        "confirmed" if same else "not confirmed",
        f"MSE {MSE.text(forward)} in the forward pass, {MSE.text(decoded)} from the indices: "
        f"{decimals(2)(ratio(decoded, forward))} times as much (means of {seeds(runs)}). The "
        "difference is what one real number a token carries past the codebook.",
    )


def _same_seeds(results: Results, *variants: str) -> list[list[Result]] | None:
    """The runs of some estimators at the seeds that all of them have; None if there is none."""
    found = [results.of("estimators", variant) for variant in variants]
    common = set.intersection(*({r.run.seed for r in runs} for runs in found))
    return [[r for r in runs if r.run.seed in common] for runs in found] if common else None


def _beyond(a: Sequence[Result], b: Sequence[Result], metric: Compared) -> bool:
    """Whether every seed of one is better than every seed of the other."""
    sign = 1 if metric.more else -1
    return all(sign * metric.value(x) > sign * metric.value(y) for x in a for y in b)
