"""Training that begins from a saved model: its configuration first, then its weights."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from rotvq.errors import UserError
from rotvq.model import VQVAE, hub, pretrained
from rotvq.training import run_folder
from rotvq.training.config import Config, ModelConfig, QuantizerConfig, differing

STRUCTURE = ("model.", "quantizer.codebook_size:", "quantizer.levels:")
"""Fields that decide which weights there are, or what they mean."""


class StartingPoint(NamedTuple):
    """What a run begins from.

    Args:
        weights: state of a `VQVAE`, its codebook and that codebook's statistics included.
        record: for run.json.
    """

    weights: dict[str, Tensor]
    record: dict[str, str]


def like(config: Config, name: str) -> Config:
    """The configuration with network and quantizer of a saved model.

    Args:
        config: gives everything else.
        name: folder of a run or of a saved model, or owner/name on the hub.

    Raises:
        UserError: there is no such model, or none that `rotvq train` could have made.
    """
    folder = hub.local(name)
    if run_folder.is_run(folder):
        saved = run_folder.read_config(folder)
        return replace(config, model=saved.model, quantizer=saved.quantizer)
    description = pretrained.describe(VQVAE.from_pretrained(folder))
    return replace(
        config,
        model=ModelConfig(**description["model"]),
        quantizer=_quantizer(name, description["quantizer"]),
    )


def _quantizer(name: str, description: dict[str, Any]) -> QuantizerConfig:
    if description["kind"] == "finite scalar":
        levels = description["levels"]
        return QuantizerConfig(math.prod(levels), levels=",".join(map(str, levels)))
    if description["kind"] != "vector":
        raise UserError(
            f"--from {name}: expected a model with one codebook or finite scalar quantization; got "
            f"one with a {description['kind']} quantizer. Train it in a loop of your own."
        )
    return QuantizerConfig(
        codebook_size=description["codebook_size"],
        estimator=description["estimator"],
        update=description["update"],
        decay=description["decay"],
        restart=(description["restart"] or {"threshold": 0.0})["threshold"],
    )


def load(name: str, config: Config) -> StartingPoint:
    """The weights of a saved model, for a run of this configuration.

    Raises:
        UserError: there is no such model, or it is another than the configuration describes.
    """
    folder = hub.local(name)
    model = VQVAE.from_pretrained(folder)
    changed = [c for c in differing(like(config, name), config) if _is_structure(c)]
    if changed:
        raise UserError(
            f"--from {name}: expected the network and codebook of that model; got "
            f"{'; '.join(changed)}. Leave these options out."
        )
    digest = hashlib.sha256((folder / pretrained.WEIGHTS).read_bytes()).hexdigest()
    return StartingPoint(model.state_dict(), {"model": name, "weights": f"sha256:{digest}"})


def _is_structure(change: str) -> bool:
    """Whether a change of a field, as `differing` says it, is one of which weights there are."""
    return change.startswith(STRUCTURE) or (
        change.startswith("quantizer.update:") and "linear" in change
    )
