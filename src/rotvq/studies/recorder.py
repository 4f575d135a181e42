"""What a study records during a run: gradient norms, codebooks of some epochs, the best model.

Each file is written whole at the end of an epoch, before the checkpoint. After a crash in between,
the run repeats that epoch and writes the same content.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from rotvq import run_folder
from rotvq.errors import UserError, first_line
from rotvq.evaluation.evaluate import batches, device_of, evaluating
from rotvq.evaluation.pixels import normalized
from rotvq.files import write_bytes, write_json
from rotvq.guarded import read_bytes
from rotvq.model import VQVAE
from rotvq.studies.milestones import CODEBOOK, milestone
from rotvq.studies.plan import GRADIENTS
from rotvq.studies.results import read_norms
from rotvq.training.callbacks import Callback
from rotvq.training.checkpoint import save_weights
from rotvq.training.trainer import Trainer

BEST = "best.safetensors"
LARGEST_CODEBOOK = 2**28  # bytes
USE_IMAGES = 1024
"""Number of test images whose tokens determine which codes are in use."""


def codebook_file(folder: Path, epoch: int) -> Path:
    """The file of the codebook after an epoch, counted from 1."""
    return folder / run_folder.CODEBOOKS / f"epoch_{epoch:04d}.safetensors"


class RunRecorder(Callback):
    """Writes gradient norms, codebook snapshots and the best model at the end of each epoch.

    Args:
        trainer: of the run.
    """

    def __init__(self, trainer: Trainer) -> None:
        options = trainer.config.training
        self._trainer = trainer
        self._batch = _spread(trainer.images.train, options.batch_size)
        self._used = _spread(trainer.images.val, USE_IMAGES)
        self._snapshots = {milestone(epoch, options.epochs) for epoch in CODEBOOK}

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        """Write the records of the epoch."""
        trainer, folder, epoch = self._trainer, self._trainer.folder, record["epoch"]
        norms = gradient_norms(trainer.model, self._batch, trainer.config.training.beta)
        _add_norms(folder / GRADIENTS, epoch, norms)
        if epoch in self._snapshots:
            _write_codebook(codebook_file(folder, epoch), trainer.eval_model, self._used)
        tests = [past["test"]["loss"] for past in trainer.position.history if past["test"]]
        if record["test"] and record["test"]["loss"] == min(tests):
            save_weights(folder / BEST, trainer.eval_model)


def read_codebook(file: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The codes (k, d) of an epoch, and how often test images use each (k,).

    Raises:
        UserError: the file does not exist or is damaged.
    """
    try:
        content = load(read_bytes(file, LARGEST_CODEBOOK))
        e, uses = content["e"], content["uses"]
        whole = e.dtype == np.float32 and e.ndim == 2 and np.isfinite(e).all()
        if not (whole and e.size and uses.dtype == np.int64 and uses.shape == e.shape[:1]):
            raise ValueError("it has other arrays")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{file}: expected the codebook of an epoch; {first_line(error)}. Remove the run's "
            "folder to train it again."
        ) from None
    return e, uses


def gradient_norms(model: VQVAE, images: UInt8[Tensor, "b c h w"], beta: float) -> dict[str, float]:
    """Norm of the loss's gradient by each parameter, on one batch; leaves the model unchanged.

    Args:
        model: evaluated in evaluation mode, so that no code moves.
        images: the batch that the loss is a mean over.
        beta: weight of the commitment loss.
    """
    with evaluating(model), torch.enable_grad():
        loss = model(normalized(images.to(device_of(model)))).loss(beta)
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: 0.0 if gradient is None else gradient.norm().item()
        for name, gradient in zip(parameters, gradients, strict=True)
    }


@torch.no_grad()
def uses(model: VQVAE, images: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, " k"]:
    """How often the images use each code."""
    with evaluating(model):
        indices = [model.encode(x).flatten() for x in batches(images, 128, model)]
    return torch.bincount(torch.cat(indices), minlength=model.quantizer.codebook_size)


def _write_codebook(file: Path, model: VQVAE, images: Tensor) -> None:
    file.parent.mkdir(exist_ok=True)
    codes = torch.arange(model.quantizer.codebook_size, device=device_of(model))
    state = {"e": model.quantizer.lookup(codes).detach(), "uses": uses(model, images)}
    content = {name: t.cpu().numpy() for name, t in state.items()}
    write_bytes(file, save(content))


def _spread(images: Tensor, number: int) -> Tensor:
    """This many images, spread evenly over a split."""
    number = min(number, len(images))
    return images[torch.arange(number, device=images.device) * len(images) // number]


def _add_norms(path: Path, epoch: int, norms: dict[str, float]) -> None:
    """Add the norms of an epoch to those of the epochs before it."""
    before = read_norms(path) if path.exists() else {}
    epochs = {str(past): values for past, values in before.items() if past < epoch}
    write_json(path, {"format": 1, "epochs": {**epochs, str(epoch): norms}})
