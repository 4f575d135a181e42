"""rotvq ablate: our own studies, each option measured, and a report of them."""

from __future__ import annotations

from collections.abc import Sequence

from rotvq.cli.reproduce import run_suite
from rotvq.studies.suites import ABLATIONS

EPILOG = """\
studies:
{studies}

Runs that are done are not done again; one that was stopped or killed goes on where it was. At the
end a report is written over everything that is done in the folder. Examples:
  rotvq ablate all --preset smoke
  rotvq ablate steps --preset cpu --data cifar-10-python.tar.gz
  rotvq ablate options --variants rotation attention --seeds 1
"""


def run(argv: Sequence[str]) -> int:
    """Do what is left of the studies named, write the report. Returns the exit status."""
    description = (
        "Go from the paper's recipe to the best one, an option at a time, and try large codebooks."
    )
    return run_suite(ABLATIONS, "rotvq.studies.ablations", argv, description, EPILOG)
