"""Tables of texts, and how numbers are written in them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from rotvq.guarded import LARGEST_NUMBER
from rotvq.studies.results import Result

MISSING = "—"


class Table(NamedTuple):
    """A table of texts: the first `labels` columns are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str
    labels: int = 1


class Metric(NamedTuple):
    """A quantity of a finished run: its name, its value, and how the value is written."""

    name: str
    value: Callable[[Result], float]
    text: Callable[[float], str]
    higher_is_better: bool = True

    def spread(self, runs: Sequence[Result]) -> str:
        """Mean ± standard deviation over the runs; see `spread`."""
        return spread([self.value(r) for r in runs], self.text)


def tested(name: str, key: str, text: Callable[[float], str], *, higher: bool = True) -> Metric:
    """A metric of the evaluation on the test split, by its key in the record."""
    return Metric(name, lambda result: result.metric(key), text, higher)


def classified(name: str, key: str, text: Callable[[float], str], *, higher: bool = True) -> Metric:
    """A metric that the classifier measured, by its key in the record."""
    return Metric(name, lambda result: result.classifier_metric(key), text, higher)


def decimals(digits: int) -> Callable[[float], str]:
    """A function that writes a number with this many decimals, and nan as a dash."""
    return lambda value: MISSING if math.isnan(value) else f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A fraction as a percentage."""
    return MISSING if math.isnan(value) else f"{100 * value:.1f} %"


def number(value: object) -> float:
    """A number of a JSON record; nan for null and for values that no metric has."""
    known = isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER
    return float(value) if known else math.nan  # type: ignore[arg-type]


def ratio(a: float, b: float) -> float:
    """a / b; nan where b is 0."""
    return a / b if b else math.nan


def spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Mean ± standard deviation; a single value alone."""
    finite = [v for v in values if not math.isnan(v)]
    if len(finite) < 2:
        return text(finite[0]) if finite else MISSING
    return f"{text(fmean(finite))} ± {text(stdev(finite))}"


def labeled(label: str, runs: Sequence[Result]) -> list[tuple[str, Result]]:
    """Each run with its label, which names the seed where there are several."""
    return [(label if len(runs) == 1 else f"{label}, seed {r.run.seed}", r) for r in runs]
