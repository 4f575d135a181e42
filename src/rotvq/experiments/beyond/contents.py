"""What the report on our own studies says of each."""

from __future__ import annotations

from rotvq.experiments.beyond import tables
from rotvq.experiments.beyond.studies import BRANCH
from rotvq.experiments.campaigns import BEYOND
from rotvq.experiments.reproduction.page import Contents
from rotvq.experiments.reproduction.results import Results
from rotvq.experiments.reproduction.tables import Table
from rotvq.experiments.reproduction.verdicts import Verdict
from rotvq.report.page import Picture


def _tables(study: str, results: Results) -> tuple[Table, ...]:
    match study:
        case "ladder":
            return (tables.ladder(results),)
        case "levers":
            return (tables.levers(results, results.of("ladder", BRANCH)),)
        case "codebooks":
            return (tables.codebooks(results),)
        case "best":
            return (tables.best(results),)
    return ()


def _pictures(study: str, results: Results) -> tuple[Picture, ...]:
    return ()


def _verdicts(study: str, results: Results) -> tuple[Verdict, ...]:
    return ()


CONTENTS = Contents(
    BEYOND,
    "beyond",
    "Beyond the paper",
    "From the paper's recipe to the best one, a lever at a time; large codebooks; and the best "
    "recipe beside plain straight-through in the same time.",
    _tables,
    _pictures,
    _verdicts,
)
