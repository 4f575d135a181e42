"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rotvq.errors import UserError
from rotvq.files import write_atomically
from rotvq.model import VQVAE

FORMAT = 2
_DAMAGED = (OSError, RuntimeError, EOFError, pickle.UnpicklingError)
"""What torch.load raises for files that are cut off, of something else, or hold code."""


@dataclass
class Position:
    """Where a run stands.

    Args:
        epoch: epochs completed.
        step: optimizer steps completed in the epoch begun.
        images: images trained on.
        seconds: spent training in the epoch begun.
        history: the records of the completed epochs.
    """

    epoch: int = 0
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """A run's whole state: weights, codebook and average, optimizer, generator, sums, position."""

    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    generator: Tensor
    totals: dict[str, Tensor | int]
    position: Position


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    content = {**vars(checkpoint), "position": vars(checkpoint.position), "format": FORMAT}
    write_atomically(path, lambda target: torch.save(content, target))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values, no code.

    Raises:
        UserError: the file is damaged or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT:
            raise ValueError("it is of another version")
        return Checkpoint(**{**content, "position": Position(**content["position"])})
    except (*_DAMAGED, KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path}: expected a checkpoint of this version; it is damaged or of another. Remove "
            "it to begin the run again, or use --overwrite."
        ) from None


def save_weights(path: Path, model: VQVAE) -> None:
    """Write the model alone, codebook included, as safetensors."""
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    write_atomically(path, lambda target: save_file(state, target))
