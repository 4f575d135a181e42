"""Watching for steps with non-finite gradients: they are skipped, reported, and end a run if they
persist."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import UInt8
from torch import Tensor

from rotvq.files import write_atomically, write_json
from rotvq.training import processes

READ_EVERY = 0.5
"""Seconds between two readings; each makes the host wait for the device."""

PATIENCE = 8
"""Bad steps in a row after which a run stops."""

REPORTS = 20
"""Bad steps of a run that are reported in full; later ones are only counted."""


@dataclass
class BadSteps:
    """Counts of bad steps; part of a run's position.

    Args:
        total: bad steps in the run so far.
        in_a_row: consecutive bad steps up to now.
    """

    total: int = 0
    in_a_row: int = 0

    def count(self, watched: Tensor) -> list[int]:
        """Count the bad steps among consecutive ones; the host waits for the device here.

        Args:
            watched: one number per step, shape (n,); nan or infinite for a bad step.

        Returns:
            The positions of the bad steps, 0 to n − 1. Counting ends after `PATIENCE` in a row.
        """
        bad = []
        for place, finite in enumerate(watched.isfinite().tolist()):
            self.in_a_row = 0 if finite else self.in_a_row + 1
            if not finite:
                self.total += 1
                bad.append(place)
            if self.in_a_row == PATIENCE:
                break
        return bad


class Monitor:
    """Collects one number per step on the device, and reads them about twice a second.

    Args:
        accelerator: this process's accelerator; several processes read at the same steps.
        precision: precision of the network. In fp16, losses are watched instead of gradients,
            because the loss scaler finds its scale by letting gradients overflow.
        counts: the run's counts of bad steps.
    """

    def __init__(self, accelerator: Accelerator, precision: str, counts: BadSteps) -> None:
        self._accelerator, self._counts = accelerator, counts
        self._of_losses = precision == "fp16"
        self._watched: list[Tensor] = []
        self._last = time.perf_counter()

    def __len__(self) -> int:
        return len(self._watched)

    @property
    def watched(self) -> str:
        """What is watched, in words."""
        return "loss" if self._of_losses else "gradient norm"

    def add(self, losses: Sequence[Tensor], norm: Tensor) -> None:
        """Add a step.

        Args:
            losses: losses of all its micro-batches, scalars.
            norm: norm of its gradients, a scalar.
        """
        # A sum is finite only if every term is.
        self._watched.append(
            torch.stack([*losses]).sum() / len(losses) if self._of_losses else norm
        )

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to read now, after `step` of the `steps` steps of an epoch."""
        if step == steps:
            return True
        if self._accelerator.num_processes > 1:
            return step % processes.AGREE_EVERY == 0
        return time.perf_counter() - self._last > READ_EVERY

    def read(self) -> dict[int, float]:
        """The bad steps since the last reading: how many steps ago each was, and its number.

        The host waits for the device here.
        """
        watched = self._accelerator.reduce(torch.stack(self._watched))
        self._watched, self._last = [], time.perf_counter()
        return {len(watched) - i: watched[i].item() for i in self._counts.count(watched)}


def report(
    folder: Path, step: int, facts: Mapping[str, Any], images: UInt8[Tensor, "n c h w"]
) -> None:
    """Write what is known about a bad step to step_N.json, and its images to step_N.npz.

    Args:
        folder: where the run's reports are written.
        step: its number in the run, from 1.
        facts: about the step and the run.
        images: images of its batch.
    """
    folder.mkdir(exist_ok=True)
    name = f"step_{step:08d}"

    def save(target: Path) -> None:
        with target.open("wb") as file:
            np.savez_compressed(file, images=images.cpu().numpy())

    write_atomically(folder / f"{name}.npz", save)
    write_json(folder / f"{name}.json", {"step": step, **facts})
