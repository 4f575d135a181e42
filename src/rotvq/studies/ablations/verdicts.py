"""What pays and what does not, and how far we came. Pure: results to sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean

from rotvq.studies.ablations.studies import BRANCH
from rotvq.studies.ablations.tables import MSE, bound, paired, rows_of
from rotvq.studies.paper.results import Result, Results
from rotvq.studies.paper.tables import decimals, percent, ratio
from rotvq.studies.paper.verdicts import Holds, Verdict, how_many, mean, open_, seeds

SHARES = (0.7, 0.55)
"""Of plain straight-through's error in the same time: what the best must reach, and aims at."""

SEEDS = 3
"""That it takes to confirm that one recipe beats another."""


def ladder(results: Results) -> list[Verdict]:
    """On each rung against the one below it."""
    rows = list(rows_of(results, "steps").items())
    return [
        _pays(label, runs, before)
        for (label, runs), (_, before) in zip(rows[1:], rows, strict=False)
    ]


def levers(results: Results) -> list[Verdict]:
    """On each lever against the rung without it."""
    branch = results.of("steps", BRANCH)
    return [_pays(label, runs, branch) for label, runs in rows_of(results, "options").items()]


def codebooks(results: Results) -> list[Verdict]:
    """On large codebooks."""
    found = [runs for runs in rows_of(results, "codebooks").values()]
    alive = "Codebooks of 8,192 and 16,384 keep more than 99 % of their codes in use, 65,536 95 %."
    falls = "The error falls with the size of the codebook."
    below = "The error is below the bound of a Gaussian source with the same bits."
    if len(found) < 2:
        return [open_(claim, "two sizes or more") for claim in (alive, falls, below)]
    errors = [mean(runs, lambda r: r.metric("mse")) for runs in found]
    uses = [mean(runs, lambda r: r.metric("usage")) for runs in found]
    least = [0.95 if _size(runs) > 16384 else 0.99 for runs in found]
    large = [use > wanted for runs, use, wanted in zip(found, uses, least, strict=True)
             if _size(runs) >= 8192]  # fmt: skip
    against = [(error, bound(runs[0])) for error, runs in zip(errors, found, strict=True)]
    return [
        Verdict(alive, how_many(large), _series(found, map(percent, uses)))
        if large
        else open_(alive, "a codebook of 8,192 or more"),
        Verdict(
            falls,
            how_many([a > b for a, b in pairwise(errors)]),
            _series(found, map(MSE, errors)),
        ),
        Verdict(
            below,
            how_many([error < limit for error, limit in against]),
            _series(found, (f"{MSE(e)} (bound {MSE(b)})" for e, b in against)),
        ),
    ]


def best(results: Results) -> list[Verdict]:
    """On the best recipe against plain straight-through in the same time."""
    ours, plain = results.of("best"), results.of("plain")
    verdicts = []
    for share in SHARES:
        claim = f"The best recipe's error is below {share} times plain straight-through's."
        if not plain:
            verdicts.append(open_(claim, "plain straight-through"))
            continue
        pair = [[r.metric("mse") for r in runs] for runs in (ours, plain)]
        times = ratio(fmean(pair[0]), fmean(pair[1]))
        verdicts.append(
            Verdict(
                claim,
                "confirmed" if max(pair[0]) < share * min(pair[1]) else "not confirmed",
                f"Test MSE {MSE(fmean(pair[0]))} against {MSE(fmean(pair[1]))}: "
                f"{decimals(2)(times)} times as much (means of {seeds(ours, plain)}; it counts "
                "where the worst seed of one is below that share of the other's best).",
            )
        )
    perplexity = mean(ours, lambda r: r.metric("perplexity"))
    use = mean(ours, lambda r: r.metric("usage"))
    verdicts.append(
        Verdict(
            "Every code is alive and the perplexity is above 950 of 1,024.",
            how_many([use == 1, perplexity > 950]),
            f"Usage {percent(use)}, perplexity {decimals(0)(perplexity)} ({seeds(ours)}).",
        )
    )
    return verdicts


def _pays(label: str, runs: Sequence[Result], before: Sequence[Result]) -> Verdict:
    claim = f"It pays: {label}."
    pairs = paired(runs, before)
    if not pairs:
        return open_(claim, "the runs without it, at the same seeds")
    less = [a < b for a, b in pairs]
    after, until = (fmean(values) for values in zip(*pairs, strict=True))
    holds: Holds = "not confirmed"
    if after < until:
        holds = "confirmed" if all(less) and len(less) >= SEEDS else "confirmed in part"
    return Verdict(
        claim,
        holds,
        f"Validation MSE {MSE(after)} against {MSE(until)} without it, less at {sum(less)} of "
        f"{len(less)} seed{'s' * (len(less) != 1)}.",
    )


def _size(runs: Sequence[Result]) -> int:
    return runs[0].run.config.quantizer.codebook_size


def _series(found: Sequence[Sequence[Result]], texts: Iterable[str]) -> str:
    labels = (runs[0].run.variant.label for runs in found)
    return "; ".join(f"{label}: {text}" for label, text in zip(labels, texts, strict=True)) + "."
