"""Our own ablations, from the paper's recipe to the preset `best`: `rotvq ablate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotvq.studies.ablations.presets import PRESETS
from rotvq.studies.ablations.studies import STUDIES
from rotvq.studies.study import Suite

if TYPE_CHECKING:
    from rotvq.studies.page import Contents

SUITE = Suite(
    "ablate",
    "ablations",
    "Ablations",
    "From the paper's recipe to the best one, one change at a time; other options; larger "
    "codebooks; and the best recipe against plain straight-through at equal training time.",
    STUDIES,
    PRESETS,
)


def contents() -> Contents:
    """What the report shows; late, as it imports matplotlib."""
    from rotvq.studies.ablations import claims, figures, tables
    from rotvq.studies.page import Contents

    return Contents(tables.tables, figures.figures, claims.claims, figures.opening)
