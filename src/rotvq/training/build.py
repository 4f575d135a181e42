"""Builds the model that a configuration describes."""

from __future__ import annotations

from pathlib import Path

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.model.pretrained import load_weights
from rotvq.quantization import (
    BINARY,
    UPDATES,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    Quantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)
from rotvq.training.config import Config
from rotvq.training.folder import read_config


def build_model(config: Config) -> VQVAE:
    """Build the model of a configuration, with weights drawn from torch's global generator."""
    return VQVAE(**vars(config.model), quantizer=_quantizer(config))


def _quantizer(config: Config) -> Quantizer:
    options, dim = config.quantizer, config.model.dim
    if dim % options.groups:
        raise UserError(
            f"model.dim: expected a multiple of quantizer.groups {options.groups}; got {dim}. "
            "Choose another number of groups."
        )
    groups = [_group(config, dim // options.groups) for _ in range(options.groups)]
    return GroupedQuantizer(groups) if options.groups > 1 else groups[0]


def _group(config: Config, dim: int) -> Quantizer:
    options = config.quantizer
    if options.codes in BINARY:
        return _binary(config, dim)
    if options.levels:
        return _grid(options.levels, dim)
    if options.scales:
        scales = [int(n) for n in options.scales.split(",")]
        return MultiScaleQuantizer(_vector(config, dim), scales, options.dropout)
    levels = [_vector(config, dim) for _ in range(options.residual)]
    return ResidualQuantizer(levels, options.dropout) if options.residual > 1 else levels[0]


def _grid(text: str, dim: int) -> FiniteScalarQuantizer:
    levels = [int(n) for n in text.split(",")]
    if len(levels) != dim:
        raise UserError(
            f"model.dim: expected {len(levels)}, one for each of quantizer.levels {text}, times "
            f"quantizer.groups; got {dim} per group."
        )
    return FiniteScalarQuantizer(levels, channel_dim=1)


def _binary(config: Config, dim: int) -> LookupFreeQuantizer:
    options = config.quantizer
    if options.codebook_size != 2**dim:
        raise UserError(
            f"quantizer.codebook_size: expected 2**{dim}, because binary codes have a bit for each "
            f"of the {dim} channels of model.dim in a group; got {options.codebook_size}."
        )
    return BINARY[options.codes](
        dim,
        estimator=options.estimator,
        entropy_loss=config.training.entropy_weight > 0,
        channel_dim=1,
    )


def _vector(config: Config, dim: int) -> VectorQuantizer:
    options = config.quantizer
    return VectorQuantizer(
        options.codebook_size,
        dim,
        estimator=options.estimator,
        update=UPDATES[options.update](options.decay),
        init=options.init,
        metric=options.metric,
        restart=Restart(options.restart) if options.restart else None,
        entropy_loss=config.training.entropy_weight > 0,
        channel_dim=1,
    )


def load_model(folder: Path, weights: str = run_folder.WEIGHTS) -> VQVAE:
    """The trained model of a run, on the CPU in evaluation mode.

    Args:
        folder: the run folder.
        weights: name of the weights file in the folder.

    Raises:
        UserError: the folder holds no run, or no weights that fit its configuration.
    """
    config = read_config(folder)
    if not (folder / weights).exists():
        raise UserError(
            f"{folder}: expected trained weights in {weights}; got none. They are written after "
            f"the first epoch: rotvq train --out {folder} --resume"
        )
    return load_weights(lambda: build_model(config), folder / weights)
