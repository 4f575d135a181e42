"""rotvq ablate: run the ablation studies and report them."""

from __future__ import annotations

from collections.abc import Sequence

from rotvq.cli.reproduce import run_suite
from rotvq.studies import ablations

EXAMPLES = """\
  rotvq ablate all --preset smoke
  rotvq ablate steps --preset cpu --data cifar-10-python.tar.gz
  rotvq ablate options --variants rotation attention --seeds 1
"""


def run(argv: Sequence[str]) -> int:
    """Run what is left of the given studies and write the report. Returns the exit status."""
    description = (
        "Run ablations and write a report: from the paper's recipe to the best one, one change at "
        "a time; other options; large codebooks; perceptual and adversarial losses; priors."
    )
    return run_suite(ablations.SUITE, ablations.contents, argv, description, EXAMPLES)
