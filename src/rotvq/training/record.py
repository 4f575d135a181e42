"""run.json: what a run was made from, so that its numbers can be made again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from rotvq import __version__, run_folder
from rotvq.data_processing import ImageData
from rotvq.model import VQVAE
from rotvq.training import environment
from rotvq.training.config import Config
from rotvq.training.images import sizes


def describe(
    config: Config,
    data: ImageData,
    images: Mapping[str, UInt8[Tensor, "n c h w"]],
    model: VQVAE,
    precision: str,
    command: str,
    start: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The record of a run that begins now.

    Args:
        config: of the run.
        data: where the images come from.
        images: those in use, by split, on the device.
        model: as built.
        precision: of the network.
        command: the command line.
        start: which model the weights come from, if they are not new.
    """
    test = images["test"]
    height, width = test.shape[2:]
    tokens = (height // model.stride) * (width // model.stride)
    bits = tokens * math.log2(config.quantizer.codebook_size)
    return {
        "format": run_folder.FORMAT,
        "rotvq": __version__,
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": environment.versions(),
        "hardware": environment.hardware(test.device),
        "precision": precision,
        "git": environment.git_state(),
        "from": dict(start) if start else None,
        "data": {
            "name": data.name,
            "source": config.data.source,
            "notes": list(data.notes),
            **sizes(images),
        },
        "model": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens": tokens,
            "bits_per_image": bits,
            "bits_per_pixel": bits / (height * width),
        },
    }
