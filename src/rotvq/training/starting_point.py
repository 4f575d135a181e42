"""Training that starts from a saved model: its configuration first, then its weights."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from rotvq.errors import UserError
from rotvq.model import VQVAE, hub, pretrained
from rotvq.quantization import BINARY
from rotvq.training.config import Config, ModelConfig, QuantizerConfig, differing

STRUCTURE = (
    "model.",
    "quantizer.codebook_size:",
    "quantizer.metric:",
    "quantizer.codes:",
    "quantizer.levels:",
    "quantizer.residual:",
    "quantizer.scales:",
    "quantizer.groups:",
)
"""Options that decide which weights there are, or what they mean."""


class StartingPoint(NamedTuple):
    """What a run starts from.

    Args:
        weights: state dict of a `VQVAE`, including the statistics of its codebooks.
        record: its entry in run.json.
    """

    weights: dict[str, Tensor]
    record: dict[str, str]


def like(config: Config, name: str) -> Config:
    """A configuration with the network and the quantizer of a saved model.

    The decay of the codebook stays at its value from the end of that model's training.

    Args:
        config: everything else.
        name: a name as in `VQVAE.from_pretrained`.

    Raises:
        UserError: there is no such model, or `rotvq train` cannot build one like it.
    """
    description = pretrained.describe(VQVAE.from_pretrained(name))
    return replace(
        config,
        model=ModelConfig(**description["model"]),
        quantizer=_quantizer(name, description["quantizer"]),
    )


def _quantizer(name: str, description: dict[str, Any]) -> QuantizerConfig:
    """The configuration of a described quantizer.

    Raises:
        UserError: `rotvq train` cannot build it.
    """
    counts, dropout, scales = {"grouped": 1, "residual": 1}, 0.0, None
    for kind in counts:
        if description["kind"] == kind:
            dropout = description.get("dropout", 0.0)
            first, *others = description["quantizers"]
            if any(other != first for other in others):
                raise UserError(
                    f"--from {name}: expected equal quantizers in a {kind} one; got different "
                    "ones. Train it in a loop of your own."
                )
            counts[kind], description = 1 + len(others), first
    if description["kind"] == "multi-scale":
        scales = ",".join(map(str, description["scales"]))
        dropout, description = description["dropout"], description["quantizer"]
    if description["kind"] == "finite scalar":
        if description.get("symmetric"):
            raise UserError(f"--from {name}: expected levels as in the paper; got symmetric ones.")
        levels = description["levels"]
        text = ",".join(map(str, levels))
        return QuantizerConfig(math.prod(levels), levels=text, groups=counts["grouped"])
    if description["kind"] in BINARY:
        return QuantizerConfig(
            2 ** description["dim"],
            estimator=description["estimator"],
            codes=description["kind"],
            groups=counts["grouped"],
        )
    return QuantizerConfig(
        codebook_size=description["codebook_size"],
        estimator=description["estimator"],
        update=description["update"],
        decay=description["decay"],
        restart=description["restart"]["threshold"] if description["restart"] else 0.0,
        metric=description.get("metric", "euclidean"),
        residual=counts["residual"],
        scales=scales,
        dropout=dropout,
        groups=counts["grouped"],
    )


def load(name: str, config: Config) -> StartingPoint:
    """The weights of a saved model, for a run of this configuration.

    Raises:
        UserError: there is no such model, or the configuration describes another one.
    """
    folder = hub.local(name)
    model = VQVAE.from_pretrained(folder)
    changed = [c for c in differing(like(config, name), config) if _is_structure(c)]
    if changed:
        raise UserError(
            f"--from {name}: expected the network and codebook of that model; got "
            f"{'; '.join(changed)}. Remove these options."
        )
    digest = hashlib.sha256((folder / pretrained.WEIGHTS).read_bytes()).hexdigest()
    return StartingPoint(model.state_dict(), {"model": name, "weights": f"sha256:{digest}"})


def _is_structure(change: str) -> bool:
    """Whether a change, as returned by `differing`, concerns which weights there are."""
    return change.startswith(STRUCTURE) or (
        change.startswith("quantizer.update:") and "linear" in change
    )
