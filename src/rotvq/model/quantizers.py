"""Quantizers as plain data, for the config.json of a saved model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rotvq.errors import UserError
from rotvq.quantization import (
    ESTIMATORS,
    UPDATES,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    Quantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)

_NESTED: dict[str, Any] = {"residual": ResidualQuantizer, "grouped": GroupedQuantizer}


def describe(quantizer: Quantizer) -> dict[str, Any]:
    """The kind and arguments of a quantizer.

    Raises:
        UserError: the quantizer or its estimator is not one of rotvq's.
    """
    if isinstance(quantizer, FiniteScalarQuantizer):
        return {"kind": "finite scalar", "levels": list(quantizer.levels)}
    for kind, make in _NESTED.items():
        if isinstance(quantizer, make):
            inner: list[Any] = list(quantizer.quantizers)
            return {"kind": kind, "quantizers": [describe(q) for q in inner]}
    if not isinstance(quantizer, VectorQuantizer):
        raise UserError(
            f"save: expected a quantizer of rotvq; got a {type(quantizer).__name__}. Save the "
            "state_dict yourself."
        )
    codebook = quantizer.codebook
    names = [name for name, function in ESTIMATORS.items() if function is quantizer.estimator]
    if not names:
        raise UserError(
            "save: expected an estimator from rotvq.ESTIMATORS; got "
            f"{getattr(quantizer.estimator, '__name__', quantizer.estimator)}. Set "
            "quantizer.estimator to one of them; encoding and decoding do not use it."
        )
    size, dim = codebook.embeddings.shape
    return {
        "kind": "vector",
        "codebook_size": size,
        "dim": dim,
        "estimator": names[0],
        "update": next(name for name, update in UPDATES.items() if type(codebook.update) is update),
        "decay": codebook.decay,
        "restart": asdict(codebook.restart) if codebook.restart else None,
        "entropy_loss": quantizer.entropy_loss,
    }


def leaves(quantizer: Quantizer) -> list[Quantizer]:
    """The quantizers that a quantizer is made of, in the order of its flattened indices."""
    if isinstance(quantizer, ResidualQuantizer | GroupedQuantizer):
        inner: list[Any] = list(quantizer.quantizers)
        return [leaf for q in inner for leaf in leaves(q)]
    return [quantizer]


def build(description: dict[str, Any]) -> Quantizer:
    """The quantizer that `describe` describes, with channel_dim=1.

    Raises:
        Exception: of any kind, if `describe` did not make the description.
    """
    arguments = dict(description)
    kind = arguments.pop("kind")
    if kind == "finite scalar":
        return FiniteScalarQuantizer(**arguments, channel_dim=1)
    if kind in _NESTED:
        nested: Quantizer = _NESTED[kind]([build(inner) for inner in arguments["quantizers"]])
        return nested
    if kind != "vector":
        raise ValueError(f"the quantizer is {kind!r}")
    update = UPDATES[arguments.pop("update")](arguments.pop("decay"))
    restart = arguments.pop("restart")
    restart = Restart(**restart) if restart else None
    return VectorQuantizer(**arguments, update=update, restart=restart, channel_dim=1)
