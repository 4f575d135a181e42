"""Checkpoints: everything that is needed to resume a run exactly."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.files import write_atomically, write_bytes
from rotvq.guarded import open_regular
from rotvq.training import archive
from rotvq.training.monitor import BadSteps

FORMAT = 4


@dataclass
class Position:
    """Where a run stands.

    Args:
        epoch: epochs completed.
        step: optimizer steps completed in the epoch begun.
        images: images trained on.
        seconds: spent training in the epoch begun.
        bad: counts of the skipped steps.
        history: the records of the completed epochs.
    """

    epoch: int = 0
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    bad: BadSteps = field(default_factory=BadSteps)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run: model, average, optimizer, scaler, generator, sums, position.

    A run without a discriminator writes no entry for one, as older versions did.
    """

    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    generator: Tensor
    totals: dict[str, Tensor]
    position: Position
    discriminator: dict[str, Tensor] | None = None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; the previous one is kept beside it.

    Raises:
        OSError: no space or no permission.
    """
    content = {**vars(checkpoint), "position": asdict(checkpoint.position), "format": FORMAT}
    if checkpoint.discriminator is None:
        del content["discriminator"]

    def write(target: Path) -> None:
        with target.open("w+b") as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # as torch reports a full disk
                disk = error.__context__
                failure = OSError(f"{target} could not be written: {error}")
                raise (disk if isinstance(disk, OSError) else failure) from None
            file.seek(0)
            file.write(hashlib.file_digest(file, "sha256").digest())
        if path.exists():
            os.replace(path, before(path))

    write_atomically(path, write)


def before(path: Path) -> Path:
    """The path of the checkpoint that was written before the one at `path`."""
    return path.with_name(f"{path.stem}-before{path.suffix}")


def settle(path: Path) -> str:
    """Make sure that the newest intact checkpoint is at `path`.

    Returns:
        A sentence if a damaged checkpoint was replaced, or nothing.

    Raises:
        UserError: both are damaged, or the only one is.
    """
    other = before(path)
    if not path.exists():
        if other.exists():
            os.replace(other, path)
        return ""
    try:
        load(path)
    except UserError:
        if not other.exists():
            raise
        load(other)
        os.replace(other, path)
        return f"{path} was damaged; the run continues from the checkpoint before it."
    return ""


def load(path: Path) -> Checkpoint:
    """Read a checkpoint: tensors and plain values, no code.

    `checkpoint_check.load_checked` also checks that it belongs to the run.

    Raises:
        UserError: the file is damaged or of another format.
    """
    try:
        with open_regular(path) as file:
            _check_digest(file)
            content = archive.read(file)
        version = content.pop("format")
        if type(version) is not int or version != FORMAT:
            raise ValueError("it is of another version")
        position = content["position"]
        position = Position(**{**position, "bad": BadSteps(**position["bad"])})
        return Checkpoint(**{**content, "position": position})
    # A crafted file can make torch.load raise anything.
    except Exception:
        raise UserError(
            f"{path}: expected a checkpoint of format {FORMAT}; it is damaged or was written by "
            "another version of rotvq. Remove it to restart the run, or pass --overwrite."
        ) from None


def _check_digest(file: BinaryIO) -> None:
    """Check that the file ends with the SHA-256 of the rest: torch.load ignores flipped bits."""
    digest = hashlib.sha256()
    left = file.seek(0, os.SEEK_END) - digest.digest_size
    file.seek(0)
    while left > 0 and (block := file.read(min(left, 2**20))):
        digest.update(block)
        left -= len(block)
    if digest.digest() != file.read():
        raise ValueError("it is damaged")


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the parameters and buffers of a model as safetensors.

    Raises:
        OSError: no space or no permission.
    """
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    write_bytes(path, to_bytes(state))
