"""What the reproduction report says of each of the paper's studies."""

from __future__ import annotations

from rotvq.experiments.campaigns import REPRODUCTION
from rotvq.experiments.reproduction import estimator_verdicts, tables, verdicts
from rotvq.experiments.reproduction.page import Contents
from rotvq.experiments.reproduction.pictures import pictures
from rotvq.experiments.reproduction.results import Results
from rotvq.experiments.reproduction.tables import Table
from rotvq.experiments.reproduction.verdicts import Verdict


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
    REPRODUCTION,
    "reproduction",
    "The paper's tables and figures, reproduced",
    "Rotational and Rescaling Vector Quantized Variational AutoEncoders: every table and figure "
    "beside what was measured.",
    _tables,
    pictures,
    _verdicts,
)
