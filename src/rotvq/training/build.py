"""From a configuration to a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import (
    EMA,
    FiniteScalarQuantizer,
    GradientLearned,
    LinearMap,
    Restart,
    Rule,
    VectorQuantizer,
)
from rotvq.training import run_folder
from rotvq.training.config import Config

RULES: dict[str, Callable[[float], Rule]] = {
    "ema": EMA,
    "gradient": GradientLearned,
    "linear": LinearMap,
}


def build_model(config: Config) -> VQVAE:
    """The model of a configuration, its weights drawn from torch's global generator.

    The codebook waits for `update_codebook()`: one step of it for one of the optimizer's.
    """
    model = config.model
    return VQVAE(
        channels=model.channels,
        width=model.width,
        dim=model.dim,
        depth=model.depth,
        stages=model.stages,
        network=model.network,
        sphere=model.sphere,
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
    rule: Rule = RULES[config.rule](config.decay)
    return VectorQuantizer(
        config.codebook_size,
        dim,
        estimator=config.estimator,
        rule=rule,
        init=config.init,
        restart=Restart(config.restart, config.restart_draw) if config.restart else None,
        weigh_use=run.training.evenness > 0,
        channel_dim=1,
        defer_update=True,
    )


def load_model(folder: Path, weights: str = run_folder.WEIGHTS) -> VQVAE:
    """The trained model of a run, on the CPU in evaluation mode.

    Args:
        folder: of the run.
        weights: name of the file in it.

    Raises:
        UserError: the folder holds no run, or no whole weights for its configuration.
    """
    path = folder / weights
    model = build_model(run_folder.read_config(folder))
    if not path.exists():
        raise UserError(
            f"{folder}: expected trained weights in {path.name}; found none. They are written "
            f"after the first epoch: rotvq train --out {folder} --resume"
        )
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: expected the weights of the configuration beside it; {reason} Resume the "
            "run to write them again."
        ) from None
    return model.eval()
