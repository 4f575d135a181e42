"""run.json: what a run was made from, so that you can reproduce its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rotvq import __version__, run_folder
from rotvq.data_processing import ImageData, skipped
from rotvq.files import write_json
from rotvq.model import VQVAE, pretrained
from rotvq.model.levels import number_of_bits, number_of_tokens
from rotvq.training import environment
from rotvq.training.config import Config
from rotvq.training.images import RunImages, sizes
from rotvq.training.samples import Samples


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


def write_run_record(
    folder: Path,
    *,
    config: Config,
    data: ImageData,
    images: RunImages,
    samples: Samples,
    model: VQVAE,
    precision: str,
    command: str,
    start: Mapping[str, str] | None = None,
    perceptual: Mapping[str, Any] | None = None,
) -> None:
    """Write run.json, the arguments of the model and the list of skipped images.

    Args:
        folder: the folder of a run that is starting.
        config: configuration of the run.
        data: where the images come from.
        images: the images in use, on the device.
        samples: the training samples of an epoch.
        model: the untrained model.
        precision: precision of the network.
        command: the command line.
        start: the model whose weights the run starts from; None for random ones.
        perceptual: the network of the perceptual loss; None if there is none.
    """
    height, width = images.test.shape[2:]
    grid = height // model.stride, width // model.stride
    bits = number_of_bits(model.quantizer, grid)
    notes = [*data.notes, samples.note] if samples.note else [*data.notes]
    record = facts(images.test.device, precision, command) | {
        "from": dict(start) if start else None,
        "data": {
            "name": data.name,
            "source": config.data.source,
            "notes": notes,
            **sizes(images.splits),
            **samples.record,
        },
        "model": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens": number_of_tokens(model.quantizer, grid),
            "bits_per_image": bits,
            "bits_per_pixel": bits / (height * width),
        },
    }
    if perceptual:
        record["perceptual"] = dict(perceptual)
    # The folder of a run can be loaded as a saved model too.
    write_json(folder / run_folder.MODEL, pretrained.describe(model))
    write_json(folder / run_folder.RUN, record)
    skipped.write(folder / run_folder.SKIPPED, data.skipped)
