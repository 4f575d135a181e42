"""Our own studies, as data: a ladder of levers, larger codebooks, and the best at half an hour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rotvq.studies.study import Changes, Study, Variant

STEPS: tuple[tuple[str, str, Changes], ...] = (
    ("paper", "paper's recipe", {}),
    (
        "revival",
        "k-means start, dead codes restart",
        {"quantizer": {"init": "data", "restart": 0.03}},
    ),
    ("straight", "straight-through gradient", {"quantizer": {"estimator": "straight_through"}}),
    ("patches", "network on patches", {"model": {"network": "patches"}}),
    (
        "one_cycle",
        "learning rate up to 0.003 and down, gradients clipped",
        {"training": {"schedule": "cosine", "learning_rate": 3e-3, "gradient_clip": 0.1}},
    ),
    ("batch_64", "batches of 64", {"training": {"batch_size": 64}}),
    ("decay", "γ from 0.9 to 0.99", {"quantizer": {"decay": 0.9, "final_decay": 0.99}}),
)
"""Name, label and changes of each rung; a rung keeps the changes of those before it."""

BRANCH = "batch_64"
"""The rung that the levers below are tried on, one at a time."""

TOP = Variant("wide", "wider network (the preset best)", {}, base="top")
"""The top of the ladder: a larger network and a learning rate that fits it."""

OPTIONS: tuple[tuple[str, str, Changes], ...] = (
    ("rotation", "rotation", {"quantizer": {"estimator": "rotation"}}),
    (
        "rotation_alone",
        "rotation without rescaling",
        {"quantizer": {"estimator": "rotation_without_rescaling"}},
    ),
    (
        "rotation_sphere",
        "rotation, latent vectors on a normalized_latents",
        {"model": {"normalized_latents": True}, "quantizer": {"estimator": "rotation"}},
    ),
    (
        "rotation_sphere_beta",
        "rotation, latent vectors on a sphere, β = 0.1",
        {
            "model": {"normalized_latents": True},
            "quantizer": {"estimator": "rotation"},
            "training": {"beta": 0.1},
        },
    ),
    (
        "rotation_beta",
        "rotation, β = 4",
        {"quantizer": {"estimator": "rotation"}, "training": {"beta": 4.0}},
    ),
    ("lifted", "lifted rotation", {"quantizer": {"estimator": "lifted_rotation"}}),
    ("entropy_weight", "loss against uneven use, 0.002", {"training": {"entropy_weight": 0.002}}),
    ("entropy_0005", "loss against uneven use, 0.005", {"training": {"entropy_weight": 0.005}}),
    ("attention", "attention", {"model": {"network": "attention"}}),
    ("dim_16", "codes of length 16", {"model": {"dim": 16}}),
    (
        "normalized_latents",
        "latent vectors on a normalized_latents",
        {"model": {"normalized_latents": True}},
    ),
    (
        "sphere_beta",
        "latent vectors on a sphere, β = 0.1",
        {"model": {"normalized_latents": True}, "training": {"beta": 0.1}},
    ),
    (
        "linear",
        "one linear map of a frozen codebook",
        {"quantizer": {"update": "linear", "restart": 0.0}},
    ),
    ("gradient", "codebook learned by gradient", {"quantizer": {"update": "gradient"}}),
    (
        "fsq",
        "finite scalar quantization, 4x4x4x4x4",
        {
            "model": {"dim": 5},
            "quantizer": {"codebook_size": 1024, "levels": "4,4,4,4,4", "restart": 0.0},
        },
    ),
    ("final_beta", "β from 0.25 to 1", {"training": {"final_beta": 1.0}}),
    ("average", "averaged weights, 0.999", {"training": {"ema_decay": 0.999}}),
    ("flip", "mirrored images", {"training": {"flip": True}}),
)
"""Name, label and changes of what is tried on the rung BRANCH."""

LARGE = (1024, 4096, 8192, 16384, 65536)
"""Sizes K of the study of large codebooks."""


def merged(*changes: Changes) -> dict[str, dict[str, Any]]:
    """Changes one after the other, the later ones before the earlier."""
    all_of_them: dict[str, dict[str, Any]] = {}
    for each in changes:
        for group, values in each.items():
            all_of_them.setdefault(group, {}).update(values)
    return all_of_them


def _steps() -> tuple[Variant, ...]:
    below: Changes = {}
    variants = []
    for name, label, changes in STEPS:
        below = merged(below, changes)
        variants.append(Variant(name, label, below))
    return (*variants, TOP)


_STEPS = _steps()
_TRUNK = next(variant.changes for variant in _STEPS if variant.name == BRANCH)


def _large(k: int) -> Variant:
    # γ so that a code's average spans some 100 of its vectors, whatever K.
    decay = {1024: 0.99, 4096: 0.99, 8192: 0.99, 16384: 0.995, 65536: 0.998}[k]
    quantizer = {"codebook_size": k, "decay": min(decay, 0.99), "final_decay": decay}
    return Variant(f"k_{k}", f"K = {k:,}", merged(_TRUNK, {"quantizer": quantizer}))


STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        Study(
            "steps",
            "The ladder: from the paper's recipe to the best, a lever at a time",
            "each rung keeps what is below it",
            "steps",
            _STEPS,
            repeated=True,
        ),
        Study(
            "options",
            "Levers tried on the ladder",
            f"each alone on the rung “{dict((n, t) for n, t, _ in STEPS)[BRANCH]}”",
            "steps",
            tuple(Variant(name, label, merged(_TRUNK, new)) for name, label, new in OPTIONS),
            repeated=True,
        ),
        Study(
            "codebooks",
            "Large codebooks",
            "the ladder's rung of the levers, with more codes",
            "steps",
            tuple(_large(k) for k in LARGE),
            measures=("bound",),
        ),
        Study(
            "best",
            "The best recipe, for half an hour",
            "the preset best",
            "best",
            (Variant("best", "best recipe", {}),),
            repeated=True,
        ),
        Study(
            "plain",
            "Plain straight-through, for half an hour",
            "what the best recipe is compared with: an EMA codebook and no lever",
            "plain",
            (Variant("plain", "straight-through, EMA", {}),),
            repeated=True,
        ),
    )
}
