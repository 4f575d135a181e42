"""Arguments of the peer: those that are refused, and those that describe a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization import EMA, GradientLearned, Restart, VectorQuantizer, sampled
from rotvq.quantization.search import nearest

Refused = Mapping[str, tuple[tuple[Any, ...], str]]
"""Unsupported arguments: the values that request nothing, and what to use instead."""


def check(kind: str, others: Mapping[str, Any], refused: Refused, ignored: set[str]) -> None:
    """Refuse arguments that request something unsupported.

    Args:
        kind: class that the arguments are for.
        others: the arguments.
        refused: those that are supported at some values only.
        ignored: those without an effect here.

    Raises:
        UserError: an unknown argument, or one with an unsupported value.
    """
    for name, value in others.items():
        if name in ignored:
            continue
        if name not in refused:
            raise UserError(
                f"{name}: expected an argument of {kind}; got an unknown one. See the layers of "
                "rotvq.quantization for the arguments of this library."
            )
        without, instead = refused[name]
        if isinstance(value, Tensor) or not any(value is w or value == w for w in without):
            got = f"a {type(value).__name__}" if isinstance(value, Tensor) else value
            raise UserError(f"{name}: expected {without[0]}; got {got}. Use {instead}.")


REFUSED: Refused = {
    "straight_through": (
        (False, None),
        "rotation_trick=False to copy the gradient. In vector-quantize-pytorch, straight_through "
        "samples codes by Gumbel-softmax, with the gradient of the softmax",
    ),
    "directional_reparam": ((False,), "rotation_trick: the decoder must see codes, without noise"),
    "vq_bridge": ((None,), "update=LinearMap() of rotvq.VectorQuantizer"),
    "manual_ema_update": ((False,), "defer_update of rotvq.VectorQuantizer"),
    "in_place_codebook_optimizer": ((None,), "learnable_codebook=True and your own optimizer"),
    "affine_param": ((False,), "kmeans_init=True, which puts the codes where the data is"),
    "sync_update_v": ((0.0,), "learnable_codebook alone"),
}
"""Of `VectorQuantize` and `ResidualVQ`."""

WITHOUT_EFFECT = {
    # Initialization and moving averages work without these here.
    "eps",
    "kmeans_iters",
    "sync_kmeans",
    # Details of arguments that are refused.
    "directional_reparam_variance",
    "manual_in_place_optimizer_update",
    "sync_affine_param",
    "affine_param_batch_decay",
    "affine_param_codebook_decay",
}


def codebook_layer(
    codebook_size: int,
    dim: int,
    *,
    decay: float = 0.8,
    kmeans_init: bool = False,
    threshold_ema_dead_code: float = 0,
    rotation_trick: bool | None = None,
    ema_update: bool | None = None,
    learnable_codebook: bool | None = None,
    use_cosine_sim: bool = False,
    stochastic_sample_codes: bool = False,
    sample_codebook_temp: float = 1.0,
    orthogonal_reg_weight: float = 0.0,
    **others: Any,
) -> VectorQuantizer:
    """The quantizer that the peer's arguments describe.

    Args:
        codebook_size: number of codes.
        dim: length of a code.
        decay: γ of the moving averages; at 1, the codes must not be updated.
        kmeans_init: place the codes by k-means over the first batch.
        threshold_ema_dead_code: above 0, dead codes restart.
        rotation_trick: rotate and rescale the gradient; False copies it straight through. True by
            default if dim is above 1.
        ema_update: codes are moving averages; the opposite of learnable_codebook.
        learnable_codebook: the codes are a parameter that the loss moves, not moving averages.
        use_cosine_sim: codes and vectors have unit length.
        stochastic_sample_codes: draw codes at random in training, nearer ones more often.
        sample_codebook_temp: temperature of the draw.
        orthogonal_reg_weight: above 0, the codes are learned, because a loss is to move them.
        others: the other arguments, with values that request nothing unsupported.

    Raises:
        UserError: an argument requests something unsupported.
    """
    check("VectorQuantize", others, REFUSED, WITHOUT_EFFECT)
    learned = orthogonal_reg_weight > 0 or bool(learnable_codebook)
    wrong = learnable_codebook if ema_update else ema_update is False and not learned
    if wrong:
        raise UserError(
            f"ema_update: expected {not learned} with learnable_codebook={learned}; got "
            f"{ema_update}. Codes that do not move at all are freeze_codebook=True."
        )
    rotates = dim > 1 if rotation_trick is None else rotation_trick
    return VectorQuantizer(
        codebook_size,
        dim,
        estimator="rotation" if rotates else "straight_through",
        update=GradientLearned() if learned else EMA(decay if decay < 1 else 0.0),
        init="data" if kmeans_init else "uniform",
        restart=Restart() if threshold_ema_dead_code > 0 else None,
        metric="cosine" if use_cosine_sim else "euclidean",
        search=sampled(sample_codebook_temp) if stochastic_sample_codes else nearest,
    )
