"""The paper's experiments, reproduced: `rotvq reproduce`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotvq.studies.paper.presets import PRESETS
from rotvq.studies.paper.studies import STUDIES
from rotvq.studies.study import Suite

if TYPE_CHECKING:
    from rotvq.studies.page import Contents

SUITE = Suite(
    "reproduce",
    "reproduction",
    "The paper's tables and figures, reproduced",
    "Rotational and Rescaling Vector Quantized Variational AutoEncoders: each table and figure of "
    "the paper next to our measurements.",
    STUDIES,
    PRESETS,
)


def contents() -> Contents:
    """What the report shows; late, as it imports matplotlib."""
    from rotvq.studies.page import Contents
    from rotvq.studies.paper import claims, figures, tables

    return Contents(tables.tables, figures.figures, claims.claims, figures.opening)
