"""The epochs that the paper's figures show, scaled to runs of any length."""

from __future__ import annotations

PAPER_EPOCHS = 100

RECONSTRUCTIONS = (0, 25, 50, 75, 99)
"""Epochs of Figures 1 to 5, counted from 0 as in the paper."""

CODEBOOK = (0, 25, 49)
"""Epochs of Figures 6 to 8."""


def milestone(paper_epoch: int, epochs: int) -> int:
    """The epoch, counted from 1, that corresponds to one of the paper's in a run of any length.

    Args:
        paper_epoch: 0 to 99, of the paper's 100.
        epochs: length of the run.

    The paper's epoch 0 is the first and its 99 the last of any run: epochs 1, 6, 11, 15 and 20 of
    20 correspond to 0, 25, 50, 75 and 99.
    """
    return round(paper_epoch * (epochs - 1) / (PAPER_EPOCHS - 1)) + 1
