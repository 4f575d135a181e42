"""Claims and their verdicts, which follow from the records alone. Pure: results to sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Literal, NamedTuple

from rotvq.studies.results import Result
from rotvq.studies.table import Metric
from rotvq.text import counted

Verdict = Literal["confirmed", "partly confirmed", "not confirmed", "open"]


class Claim(NamedTuple):
    """A statement, whether it holds here, and the numbers behind the verdict.

    Statements that say the same of several members share a `family`, under which a page lists them.
    """

    statement: str
    verdict: Verdict
    evidence: str
    family: str = ""
    member: str = ""


class Group(NamedTuple):
    """The statements with the same verdict, each with the name of its study."""

    verdict: Verdict
    statements: tuple[tuple[str, str], ...]


VERDICTS: tuple[Verdict, ...] = ("confirmed", "partly confirmed", "not confirmed", "open")


def grouped(claims: Mapping[str, Sequence[Claim]]) -> tuple[Group, ...]:
    """The claims of each study by their verdict; the members of a family in one statement."""
    groups = []
    for said in VERDICTS:
        statements: list[tuple[str, str]] = []
        for study, found in claims.items():
            families: dict[str, list[str]] = {}
            for claim in found:
                if claim.verdict == said:
                    families.setdefault(claim.family or claim.statement, []).append(claim.member)
            statements += [
                (study, f"{text}: {'; '.join(members)}." if any(members) else text)
                for text, members in families.items()
            ]
        if statements:
            groups.append(Group(said, tuple(statements)))
    return tuple(groups)


def verdict(parts: Sequence[bool]) -> Verdict:
    """Confirmed if all parts hold, partly confirmed if some do."""
    if all(parts):
        return "confirmed"
    return "partly confirmed" if any(parts) else "not confirmed"


def falls(series: Sequence[Sequence[float]]) -> Verdict:
    """Confirmed if every series falls at each step, partly if each ends below its start.

    A series that has reached 0 may stay there.
    """
    if all(a > b or a == b == 0 for values in series for a, b in pairwise(values)):
        return "confirmed"
    ends = all(values[-1] < values[0] for values in series)
    return "partly confirmed" if ends else "not confirmed"


def open_claim(statement: str, needed: str) -> Claim:
    """A claim that no measurement addresses yet."""
    return Claim(statement, "open", f"Not measured yet: requires {needed}.")


def mean(runs: Sequence[Result], value: Callable[[Result], float]) -> float:
    """The mean over runs."""
    return fmean(map(value, runs))


def mean_tested(runs: Sequence[Result], metric: str) -> float:
    """The mean of a metric of the evaluation on the test split."""
    return mean(runs, lambda result: result.metric(metric))


def mean_trained(runs: Sequence[Result], metric: str) -> float:
    """The mean of a metric of the last epoch on the training split."""
    return mean(runs, lambda result: result.train(metric))


def compare(
    statement: str,
    names: tuple[str, str],
    pair: Sequence[Sequence[Result]],
    metrics: Sequence[Metric],
    others: Sequence[Metric] = (),
) -> Claim:
    """The claim that the first of two groups of runs is better than the second.

    Args:
        statement: the claim.
        names: of the two groups.
        pair: their runs.
        metrics: those that decide; each holds if the worst run of the first group is better than
            the best run of the second. One that is not finite everywhere is left out.
        others: metrics shown with them.
    """
    first, second = pair
    known = [m for m in metrics if all(math.isfinite(m.value(r)) for r in (*first, *second))]
    if not known:
        return open_claim(statement, " and ".join(m.name for m in metrics))
    values = "; ".join(
        f"{m.name} {' vs. '.join(m.text(mean(runs, m.value)) for runs in pair)}"
        for m in (*known, *others)
    )
    one, other = names
    return Claim(
        statement,
        verdict([_better_at_every_seed(first, second, m) for m in known]),
        f"{one.capitalize()} vs. {other}: {values} (means over {seeds(*pair)}; a metric counts "
        f"only if every seed of {one} beats every seed of {other}).",
    )


def _better_at_every_seed(a: Sequence[Result], b: Sequence[Result], metric: Metric) -> bool:
    sign = 1 if metric.higher_is_better else -1
    return all(sign * metric.value(x) > sign * metric.value(y) for x in a for y in b)


def seeds(*groups: Sequence[Result]) -> str:
    """The number of seeds in words, as "3 seeds" or "1 to 3 seeds"."""
    fewest, most = min(map(len, groups)), max(map(len, groups))
    return counted(fewest, "seed") if fewest == most else f"{fewest} to {most} seeds"
