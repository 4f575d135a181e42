"""What the record of every run says, so that you can reproduce its numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import torch

from rotvq import __version__, run_folder
from rotvq.training import environment


def facts(device: torch.device, precision: str, command: str) -> dict[str, Any]:
    """What every run's record contains: format, command, time, versions, hardware, commit.

    Args:
        device: device of the run.
        precision: precision of the network.
        command: the command line.
    """
    return {
        "format": run_folder.FORMAT,
        "rotvq": __version__,
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": environment.versions(),
        "hardware": environment.hardware(device),
        "precision": precision,
        "git": environment.git_state(),
    }
