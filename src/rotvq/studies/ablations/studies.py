"""Our ablations, as data: steps to the best recipe, other options, large codebooks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

from rotvq.studies.study import Changes, Study, Variant

STEPS: tuple[tuple[str, str, Changes], ...] = (
    ("paper", "the paper's recipe", {}),
    (
        "restarts",
        "k-means initialization, restarts of dead codes",
        {"quantizer": {"init": "data", "restart": 0.03}},
    ),
    (
        "straight_through",
        "straight-through estimator",
        {"quantizer": {"estimator": "straight_through"}},
    ),
    ("patches", "patch network", {"model": {"network": "patches"}}),
    (
        "one_cycle",
        "learning rate up to 0.003 and back to 0, gradient clipping",
        {"training": {"schedule": "cosine", "learning_rate": 3e-3, "gradient_clip": 0.1}},
    ),
    ("batch_64", "batches of 64", {"training": {"batch_size": 64}}),
    ("decay", "γ from 0.9 to 0.99", {"quantizer": {"decay": 0.9, "final_decay": 0.99}}),
)
"""Name, label and changes of each step; a step keeps the changes of those before it."""

BASELINE = "batch_64"
"""The step that the options are added to, one at a time."""

LAST = Variant("wide", "wider network", {}, base="last_step")
"""The last step: a larger network, and a learning rate that fits it."""

_ROTATION: Changes = {"quantizer": {"estimator": "rotation"}}
_NORMALIZED: Changes = {"model": {"normalized_latents": True}}


def _binary(codes: str) -> Changes:
    return {
        "model": {"dim": 10},
        "quantizer": {"codebook_size": 1024, "codes": codes, "restart": 0.0},
    }


OPTIONS: tuple[tuple[str, str, tuple[Changes, ...]], ...] = (
    ("rotation", "rotation", (_ROTATION,)),
    (
        "rotation_without_rescaling",
        "rotation without rescaling",
        ({"quantizer": {"estimator": "rotation_without_rescaling"}},),
    ),
    (
        "rotation_normalized_latents",
        "rotation and normalized latents",
        (_ROTATION, _NORMALIZED),
    ),
    (
        "rotation_normalized_latents_beta",
        "rotation, normalized latents and β = 0.1",
        (_ROTATION, _NORMALIZED, {"training": {"beta": 0.1}}),
    ),
    ("rotation_beta", "rotation and β = 4", (_ROTATION, {"training": {"beta": 4.0}})),
    ("lifted_rotation", "lifted rotation", ({"quantizer": {"estimator": "lifted_rotation"}},)),
    ("entropy_0.002", "entropy loss, weight 0.002", ({"training": {"entropy_weight": 0.002}},)),
    ("entropy_0.005", "entropy loss, weight 0.005", ({"training": {"entropy_weight": 0.005}},)),
    ("attention", "attention", ({"model": {"network": "attention"}},)),
    ("dim_16", "codes of dimension 16", ({"model": {"dim": 16}},)),
    ("normalized_latents", "normalized latents", (_NORMALIZED,)),
    (
        "normalized_latents_beta",
        "normalized latents and β = 0.1",
        (_NORMALIZED, {"training": {"beta": 0.1}}),
    ),
    (
        "linear",
        "linear map of a frozen codebook",
        ({"quantizer": {"update": "linear", "restart": 0.0}},),
    ),
    ("gradient", "codebook learned by gradient", ({"quantizer": {"update": "gradient"}},)),
    (
        "fsq",
        "finite scalar quantization, 4×4×4×4×4",
        (
            {
                "model": {"dim": 5},
                "quantizer": {"codebook_size": 1024, "levels": "4,4,4,4,4", "restart": 0.0},
            },
        ),
    ),
    ("cosine", "cosine codes", ({"quantizer": {"metric": "cosine"}},)),
    ("lookup_free", "lookup-free quantization, 10 bits", (_binary("lookup_free"),)),
    (
        "lookup_free_entropy",
        "lookup-free quantization, 10 bits, entropy loss 0.01",
        (_binary("lookup_free"), {"training": {"entropy_weight": 0.01}}),
    ),
    ("spherical", "binary spherical quantization, 10 bits", (_binary("spherical"),)),
    ("averaged_weights", "averaged weights, decay 0.999", ({"training": {"ema_decay": 0.999}},)),
    ("muon", "Muon", ({"training": {"optimizer": "muon"}},)),
)
"""Name, label and changes of each option, made to the step BASELINE."""

STRAIGHT_THROUGH = "straight_through"
"""The baseline's name among the tokens that are modeled."""


class Part(NamedTuple):
    """One part of a combination: its name, its label and its changes."""

    name: str
    label: str
    changes: Changes


SHARP_ESTIMATORS = (
    Part("straight_through", "straight-through", {}),
    Part("rotation", "rotation", _ROTATION),
    Part("normalized", "rotation with normalized latents", {**_ROTATION, **_NORMALIZED}),
)
_OFF = dict.fromkeys(("perceptual_weight", "adversarial_weight"), 0.0)
SHARP_LOSSES = (
    Part("mse", "MSE", {"training": {**_OFF, "perceptual": None}}),
    Part("perceptual", "perceptual loss", {"training": {"adversarial_weight": 0.0}}),
    Part("adversarial", "perceptual and adversarial losses", {}),
)
_PLAIN = {"init": "uniform", "restart": 0.0, "decay": 0.99, "final_decay": None}
SHARP_CODEBOOKS = (
    Part("restarts", "restarts", {}),
    Part("ema", "plain EMA", {"quantizer": _PLAIN}),
)
"""What the study of sharp pictures combines."""

LARGE = (1024, 4096, 8192, 16384, 65536)
"""Sizes K of the study of large codebooks."""


def merged(*changes: Changes) -> dict[str, dict[str, Any]]:
    """Changes made one after the other; later values replace earlier ones."""
    together: dict[str, dict[str, Any]] = {}
    for each in changes:
        for group, values in each.items():
            together.setdefault(group, {}).update(values)
    return together


def _steps() -> tuple[Variant, ...]:
    before: Changes = {}
    variants = []
    for name, label, changes in STEPS:
        before = merged(before, changes)
        variants.append(Variant(name, label, before))
    return (*variants, LAST)


_STEPS = _steps()
_BASELINE = next(variant for variant in _STEPS if variant.name == BASELINE)


def _large(k: int) -> Variant:
    # γ such that the average of a code spans about 100 of its vectors, whatever K.
    decay = {1024: 0.99, 4096: 0.99, 8192: 0.99, 16384: 0.995, 65536: 0.998}[k]
    quantizer = {"codebook_size": k, "decay": min(decay, 0.99), "final_decay": decay}
    return Variant(f"k_{k}", f"K = {k:,}", merged(_BASELINE.changes, {"quantizer": quantizer}))


def sharp_name(*parts: Part) -> str:
    """The variant of the study of sharp pictures with these parts: codebook, losses, estimator."""
    return "_".join(part.name for part in parts)


SHARP = sharp_name(SHARP_CODEBOOKS[0], SHARP_LOSSES[1], SHARP_ESTIMATORS[0])
"""The variant whose settings are those of the preset `sharp`."""


def _sharp() -> tuple[Variant, ...]:
    return tuple(
        Variant(
            sharp_name(*parts),
            ", ".join(part.label for part in parts),
            merged(*(part.changes for part in parts)),
        )
        for parts in product(SHARP_CODEBOOKS, SHARP_LOSSES, SHARP_ESTIMATORS)
    )


def _option(name: str, label: str = "") -> Variant:
    """The baseline with one of the options."""
    own, changes = next((text, found) for known, text, found in OPTIONS if known == name)
    return Variant(name, label or own, merged(_BASELINE.changes, *changes))


STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        Study(
            "steps",
            "From the paper's recipe to the best one",
            "one change per step; each step keeps the changes before it",
            "steps",
            _STEPS,
            repeated=True,
        ),
        Study(
            "options",
            "Other options",
            f"each added alone to the step “{_BASELINE.label}”",
            "steps",
            tuple(_option(name) for name, _, _ in OPTIONS),
            repeated=True,
        ),
        Study(
            "codebooks",
            "Large codebooks",
            f"the step “{_BASELINE.label}” with more codes",
            "steps",
            tuple(_large(k) for k in LARGE),
            measures=("bound",),
        ),
        Study(
            "best",
            "All steps together, for half an hour",
            "the last step at full length; the preset best also has attention and Muon",
            "best",
            (Variant("best", "all steps", {}),),
            repeated=True,
        ),
        Study(
            "plain",
            "Plain straight-through, for half an hour",
            "the baseline of all steps together: an EMA codebook and none of the options",
            "plain",
            (Variant("plain", "straight-through, EMA", {}),),
            repeated=True,
        ),
        Study(
            "sharp",
            "Sharp pictures",
            "three estimators, with and without perceptual and adversarial losses and restarts",
            "sharp",
            _sharp(),
            repeated=True,
            measures=("classifier_metrics",),
        ),
        Study(
            "priors",
            "Tokens that are easy to model",
            "a prior over the tokens of models of other studies, and its samples",
            "steps",
            (
                Variant(STRAIGHT_THROUGH, "straight-through", _BASELINE.changes),
                _option("rotation"),
                _option("normalized_latents"),
                _option("rotation_normalized_latents"),
                _option("fsq", "finite scalar quantization"),
                _large(4096),
            ),
            measures=("generation",),
        ),
    )
}
