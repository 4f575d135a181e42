"""A run's state: into a checkpoint, and back from one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from rotvq.errors import UserError
from rotvq.evaluation.metrics import Totals
from rotvq.model import VQVAE
from rotvq.training.checkpoint import Checkpoint, Position
from rotvq.training.checkpoint_check import load_checked, placed
from rotvq.training.config import TrainingConfig


class Parts(NamedTuple):
    """What changes while a run trains, apart from its position."""

    model: VQVAE
    average: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    totals: Totals


def capture(parts: Parts, position: Position) -> Checkpoint:
    """The state of this process as it is now, torch's generator included."""
    return Checkpoint(
        model=parts.model.state_dict(),
        average=parts.average.state_dict() if parts.average else None,
        optimizer=parts.optimizer.state_dict(),
        scaler=parts.scaler.state_dict(),
        generator=torch.get_rng_state(),
        totals=parts.totals.state_dict(),
        position=position,
    )


def restore(
    parts: Parts, path: Path, options: TrainingConfig, steps: int, *, sums: bool
) -> Position:
    """Load a checkpoint once all of it is known to belong to this run.

    Args:
        parts: of the run before its first step.
        path: of the checkpoint, in the folder of the run.
        options: of the run.
        steps: of an epoch.
        sums: whether this process takes up the totals, which are those of all processes.

    Returns:
        Where the run stands.

    Raises:
        UserError: the checkpoint is damaged or of another run, or the run is past its epochs.
    """
    parameters = [*parts.model.parameters()]
    fresh = capture(parts, Position())
    saved = load_checked(path, fresh, parameters, steps, options.batch_size)
    begun = saved.position.epoch + (saved.position.step > 0)
    if options.epochs < begun:
        raise UserError(
            f"training.epochs: expected {begun} or more, as the run in {path.parent} has begun "
            f"epoch {begun}; got {options.epochs}. Choose another --out for a shorter run."
        )
    for module, values in ((parts.model, saved.model), (parts.average, saved.average)):
        if module is not None and values is not None:
            # Its own state dict, as the versions of modules beside the values are not checked.
            own = module.state_dict()
            own.update(values)
            module.load_state_dict(own)
    parts.optimizer.load_state_dict(placed(saved.optimizer, parts.optimizer, parameters))
    if saved.scaler:
        parts.scaler.load_state_dict(saved.scaler)
    torch.set_rng_state(saved.generator)
    if sums:
        parts.totals.load_state_dict(saved.totals)
    return saved.position
