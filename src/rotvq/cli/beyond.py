"""rotvq beyond: our own studies, each lever measured, and a report of them."""

from __future__ import annotations

from collections.abc import Sequence

from rotvq.cli.reproduce import run_campaign
from rotvq.experiments.campaigns import BEYOND

EPILOG = """\
studies:
{studies}

Runs that are done are not done again; one that was stopped or killed goes on where it was. At the
end a report is written over everything that is done in the folder. Examples:
  rotvq beyond all --preset smoke
  rotvq beyond ladder --preset cpu --data cifar-10-python.tar.gz
  rotvq beyond levers --variants rotation attention --seeds 1
"""


def run(argv: Sequence[str]) -> int:
    """Do what is left of the studies named, write the report. Returns the exit status."""
    description = (
        "Climb from the paper's recipe to the best one, a lever at a time, and try large codebooks."
    )
    return run_campaign(BEYOND, "rotvq.experiments.beyond", argv, description, EPILOG)
