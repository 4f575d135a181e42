"""From a configuration to a model."""

from __future__ import annotations

from pathlib import Path

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.model.pretrained import load_weights
from rotvq.quantization import UPDATES, FiniteScalarQuantizer, Restart, VectorQuantizer
from rotvq.training import run_folder
from rotvq.training.config import Config


def build_model(config: Config) -> VQVAE:
    """The model of a configuration, its weights drawn from torch's global generator."""
    model = config.model
    return VQVAE(
        channels=model.channels,
        width=model.width,
        dim=model.dim,
        depth=model.depth,
        stages=model.stages,
        network=model.network,
        normalized_latents=model.normalized_latents,
        quantizer=_quantizer(config, model.dim),
    )


def _quantizer(run: Config, dim: int) -> VectorQuantizer | FiniteScalarQuantizer:
    config = run.quantizer
    if config.levels:
        levels = [int(n) for n in config.levels.split(",")]
        if len(levels) != dim:
            raise UserError(
                f"model.dim: expected {len(levels)}, one for each of quantizer.levels "
                f"{config.levels}; got {dim}."
            )
        return FiniteScalarQuantizer(levels, channel_dim=1)
    return VectorQuantizer(
        config.codebook_size,
        dim,
        estimator=config.estimator,
        update=UPDATES[config.update](config.decay),
        init=config.init,
        restart=Restart(config.restart) if config.restart else None,
        entropy_loss=run.training.entropy_weight > 0,
        channel_dim=1,
    )


def load_model(folder: Path, weights: str = run_folder.WEIGHTS) -> VQVAE:
    """The trained model of a run, on the CPU in evaluation mode.

    Args:
        folder: of the run.
        weights: name of the file in it.

    Raises:
        UserError: the folder holds no run, or no whole weights for its configuration.
    """
    config = run_folder.read_config(folder)
    if not (folder / weights).exists():
        raise UserError(
            f"{folder}: expected trained weights in {weights}; found none. They are written "
            f"after the first epoch: rotvq train --out {folder} --resume"
        )
    return load_weights(lambda: build_model(config), folder / weights)
