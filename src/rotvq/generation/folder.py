"""The folder of a prior's run: that of any run, with the tokenizer and samples beside it."""

from __future__ import annotations

from pathlib import Path

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.generation.config import PriorConfig
from rotvq.training.folder import parsed


def is_prior(folder: Path) -> bool:
    """Whether a folder holds the run of a prior, rather than that of a tokenizer.

    Raises:
        UserError: it holds no run, or a damaged one.
    """
    return "prior" in run_folder.read_config(folder)


def read_config(folder: Path) -> PriorConfig:
    """The configuration of the prior's run in a folder.

    Raises:
        UserError: the folder holds no run of a prior, or its config.yaml is damaged.
    """
    if not is_prior(folder):
        raise UserError(
            f"{folder}: expected the run of a prior; got the run of a tokenizer. Train a prior on "
            "its tokens: rotvq encode, then rotvq prior."
        )
    return parsed(folder, run_folder.read_config(folder), PriorConfig.from_dict)


def picture(epoch: int) -> str:
    """The picture of an epoch's samples, relative to the folder; epochs count from 1."""
    return f"{run_folder.SAMPLES}/epoch_{epoch:04d}.png"
