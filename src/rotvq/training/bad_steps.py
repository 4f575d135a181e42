"""Steps whose numbers went bad: left out, reported with their images, and not for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from rotvq.files import write_atomically, write_json

PATIENCE = 8
"""Bad steps in a row after which a run stops."""

REPORTS = 20
"""Bad steps of a run that are reported in full; what comes after is counted."""


@dataclass
class BadSteps:
    """How many there were; part of a run's position.

    Args:
        total: in the run so far.
        in_a_row: up to now.
    """

    total: int = 0
    in_a_row: int = 0

    def note(self, watched: Tensor) -> list[int]:
        """Look at a number of each step since the last look; the host waits for the device here.

        Args:
            watched: (n,) gradient norms or losses, nan or infinite for a bad step.

        Returns:
            Which of the n were bad. Looking ends where the patience does.
        """
        bad = []
        for place, fine in enumerate(watched.isfinite().tolist()):
            self.in_a_row = 0 if fine else self.in_a_row + 1
            if not fine:
                self.total += 1
                bad.append(place)
            if self.in_a_row == PATIENCE:
                break
        return bad


def report(
    folder: Path, step: int, facts: Mapping[str, Any], images: UInt8[Tensor, "n c h w"]
) -> None:
    """Write what is known of a bad step as step_N.json, and its images as step_N.npz beside it.

    Args:
        folder: of all reports of the run.
        step: its number in the run, from 1.
        facts: numbers of the step and of the run before it.
        images: that it was made from.
    """
    folder.mkdir(exist_ok=True)
    name = f"step_{step:08d}"

    def save(target: Path) -> None:
        with target.open("wb") as file:
            np.savez_compressed(file, images=images.cpu().numpy())

    write_atomically(folder / f"{name}.npz", save)
    write_json(folder / f"{name}.json", {"step": step, **facts})
