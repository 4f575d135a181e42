"""Quantizers as plain data, for the config.json of a saved model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rotvq.errors import UserError
from rotvq.quantization import (
    BINARY,
    ESTIMATORS,
    UPDATES,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    MultiScaleQuantizer,
    Quantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)
from rotvq.quantization.estimators import Estimator
from rotvq.quantization.updates import Update

_NESTED: dict[str, Any] = {"residual": ResidualQuantizer, "grouped": GroupedQuantizer}


def describe(quantizer: Quantizer) -> dict[str, Any]:
    """The kind and arguments of a quantizer.

    Raises:
        UserError: the quantizer or its estimator is not one of rotvq's.
    """
    if isinstance(quantizer, FiniteScalarQuantizer):
        symmetric = {"symmetric": True} if quantizer.codebook.symmetric else {}
        return {"kind": "finite scalar", "levels": list(quantizer.levels), **symmetric}
    for kind, make in _NESTED.items():
        if isinstance(quantizer, make):
            inner: list[Any] = list(quantizer.quantizers)
            dropout = getattr(quantizer, "dropout", 0.0)
            more = {"dropout": dropout} if dropout else {}
            return {"kind": kind, "quantizers": [describe(q) for q in inner], **more}
    if isinstance(quantizer, MultiScaleQuantizer):
        return {
            "kind": "multi-scale",
            "scales": list(quantizer.scales),
            "dropout": quantizer.dropout,
            "quantizer": describe(quantizer.of(-1)),
        }
    for kind, make in BINARY.items():
        if type(quantizer) is make:
            binary: Any = quantizer
            return {
                "kind": kind,
                "dim": binary.dim,
                "estimator": _name(binary.estimator),
                "entropy_loss": binary.entropy_loss,
                "temperature": binary.temperature,
                "group": binary.group,
            }
    if not isinstance(quantizer, VectorQuantizer):
        raise UserError(
            f"save: expected a quantizer of rotvq; got a {type(quantizer).__name__}. Save the "
            "state_dict yourself."
        )
    codebook = quantizer.codebook
    cosine = {} if codebook.metric == "euclidean" else {"metric": codebook.metric}
    size, dim = codebook.embeddings.shape
    return {
        "kind": "vector",
        "codebook_size": size,
        "dim": dim,
        "estimator": _name(quantizer.estimator),
        "update": _update(codebook.update),
        "decay": codebook.decay,
        "restart": asdict(codebook.restart) if codebook.restart else None,
        "entropy_loss": quantizer.entropy_loss,
        **cosine,
    }


def _update(update: Update) -> str:
    for name, kind in UPDATES.items():
        if type(update) is kind:
            return name
    raise UserError(
        f"save: expected an update of rotvq ({', '.join(UPDATES)}); got a {type(update).__name__}. "
        "Save the state_dict yourself."
    )


def _name(estimator: Estimator) -> str:
    for name, function in ESTIMATORS.items():
        if function is estimator:
            return name
    raise UserError(
        "save: expected an estimator from rotvq.ESTIMATORS; got "
        f"{getattr(estimator, '__name__', estimator)}. Set quantizer.estimator to one of them; "
        "encoding and decoding do not use it."
    )


def leaves(quantizer: Quantizer) -> list[Quantizer]:
    """The quantizers that a quantizer is made of, in the order of its flattened indices."""
    if isinstance(quantizer, ResidualQuantizer | GroupedQuantizer | MultiScaleQuantizer):
        inner: list[Any] = list(quantizer.quantizers)
        return [leaf for q in inner for leaf in leaves(q)]
    return [quantizer]


def build(description: dict[str, Any]) -> Quantizer:
    """The quantizer that `describe` describes, with channel_dim=1.

    Raises:
        Exception: any exception, if `describe` did not make the description.
    """
    arguments = dict(description)
    kind = arguments.pop("kind")
    if kind == "finite scalar":
        return FiniteScalarQuantizer(**arguments, channel_dim=1)
    if kind in BINARY:
        return BINARY[kind](**arguments, channel_dim=1)
    if kind == "multi-scale":
        one: Any = build(arguments.pop("quantizer"))
        return MultiScaleQuantizer(one, **arguments)
    if kind in _NESTED:
        inner = [build(each) for each in arguments.pop("quantizers")]
        nested: Quantizer = _NESTED[kind](inner, **arguments)
        return nested
    if kind != "vector":
        raise ValueError(f"the quantizer is {kind!r}")
    update = UPDATES[arguments.pop("update")](arguments.pop("decay"))
    restart = arguments.pop("restart")
    restart = Restart(**restart) if restart else None
    return VectorQuantizer(**arguments, update=update, restart=restart, channel_dim=1)
