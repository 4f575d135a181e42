"""What the reproduction report says of each of the paper's studies."""

from __future__ import annotations

from rotvq.studies.paper import estimator_verdicts, tables, verdicts
from rotvq.studies.paper.page import Contents
from rotvq.studies.paper.pictures import pictures
from rotvq.studies.paper.results import Results
from rotvq.studies.paper.tables import Table
from rotvq.studies.paper.verdicts import Verdict
from rotvq.studies.suites import PAPER


def _tables(study: str, results: Results) -> tuple[Table, ...]:
    first = results.of(study)[0]
    match study:
        case "training":
            return (tables.training_table(first),)
        case "table2":
            return (tables.table2(results),)
        case "table3":
            return (tables.table3(results),)
        case "final":
            return (tables.final(first),)
        case "estimators":
            leak = tables.leak(results)
            return (tables.estimators(results), *([leak] if leak.rows else []))
    return ()


def _verdicts(study: str, results: Results) -> tuple[Verdict, ...]:
    first = results.of(study)[0]
    match study:
        case "training":
            return tuple(verdicts.training(first))
        case "table2":
            return tuple(verdicts.table2(results))
        case "table3":
            return tuple(verdicts.table3(results))
        case "figures":
            return tuple(verdicts.figures(first))
        case "final":
            return tuple(verdicts.final(first))
    return tuple(estimator_verdicts.estimators(results))


CONTENTS = Contents(
    PAPER,
    "reproduction",
    "The paper's tables and figures, reproduced",
    "Rotational and Rescaling Vector Quantized Variational AutoEncoders: every table and figure "
    "beside what was measured.",
    _tables,
    pictures,
    _verdicts,
)
