"""Each study's figures with what they show in words."""

from __future__ import annotations

from rotvq.experiments.reproduction.results import Results
from rotvq.report.page import Picture


def pictures(study: str, results: Results) -> tuple[Picture, ...]:
    """The figures of a study, in order."""
    return ()
