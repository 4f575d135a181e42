"""A model as a folder of two files that load years later: config.json and model.safetensors.

config.json names the format, its version, and the arguments that the model is built from; the
weights are tensors alone, never code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from rotvq.errors import UserError
from rotvq.files import write_bytes, write_json
from rotvq.guarded import open_regular, read_json
from rotvq.quantization import (
    ESTIMATORS,
    UPDATES,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)

if TYPE_CHECKING:
    from rotvq.model.vqvae import VQVAE, Quantizer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT, VERSION = "rotvq model", 1

LARGEST = {"depth": 1000}
"""Of numbers that decide how many layers are made."""

SEVERAL: dict[str, Any] = {"residual": ResidualQuantizer, "grouped": GroupedQuantizer}


def save(model: VQVAE, folder: Path) -> None:
    """Write both files, each whole or not at all.

    Raises:
        UserError: the estimator is a function of the caller's own, which no file can hold;
            several quantizers share one codebook; or weights are not finite.
    """
    description = describe(model)
    tensors = model.state_dict(keep_vars=True)
    if len(set(map(id, tensors.values()))) < len(tensors):
        raise UserError(
            "save: expected quantizers with codes of their own; got several that share one "
            "codebook. Save the state_dict yourself."
        )
    state = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    for name, t in state.items():
        if not t.isfinite().all():
            raise UserError(
                f"save: expected finite weights; got nan or infinity in {name}. Load an earlier "
                "checkpoint."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS, to_bytes(state))
    write_json(folder / CONFIG, description)


def describe(model: VQVAE) -> dict[str, Any]:
    """What config.json holds.

    Raises:
        UserError: as of `save`.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model.arguments,
        "quantizer": _describe(model.quantizer),
    }


def load(make: type[VQVAE], folder: Path) -> VQVAE:
    """The model of a folder that `save` wrote, on the CPU in evaluation mode.

    Raises:
        UserError: a file is absent, damaged, newer than this package, or of another model.
    """
    description = _read(folder / CONFIG)
    path = folder / WEIGHTS

    def build() -> VQVAE:
        return make(**description["model"], quantizer=_build(description["quantizer"]))

    try:
        _check_sizes(description)
        return load_weights(build, path)
    except UserError:
        raise
    # A file that someone made up can make the constructors raise anything.
    except Exception as error:
        raise UserError(
            f"{folder / CONFIG}: expected the arguments of a model; {_reason(error)} Take the "
            "file that was saved with the weights."
        ) from None


def _check_sizes(description: dict[str, Any]) -> None:
    """See that numbers are ones that a model can have.

    Raises:
        ValueError: they are not.
    """
    for part in ("model", "quantizer"):
        for name, value in description[part].items():
            most = LARGEST.get(name, 2**31)
            if isinstance(value, int) and not 0 <= value <= most:
                raise ValueError(f"{name} is {value}")


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name, in no more memory than it has bytes.

    Raises:
        UserError: the file is absent, damaged or no regular one.
    """
    try:
        # By its content, as safetensors opens no path that is not UTF-8.
        with open_regular(path) as file:
            return from_bytes(file.read())
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected the weights of a model; there is no such file."
        ) from None
    # A made-up header names types and lengths that raise anything.
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise error if isinstance(error, UserError) else _not_weights(path, error) from None


def load_weights(build: Callable[[], VQVAE], path: Path) -> VQVAE:
    """The model with the weights of a file, in evaluation mode.

    Args:
        build: makes it. First without memory, as a file may ask for more than there is.
        path: of the weights.

    Raises:
        UserError: the file is absent, damaged, of another model, or holds numbers that are not
            finite.
    """
    found = _tensors(path)
    with torch.device("meta"):
        plan = build().state_dict()
    for name in plan | found:
        if reason := _difference(found.get(name), plan.get(name)):
            raise _not_weights(path, f"{reason} in {name}")
    model = build()
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise _not_weights(path, error) from None
    return model.eval()


def _difference(found: Tensor | None, wanted: Tensor | None) -> str:
    """What makes a tensor unfit for the place of another, or nothing."""
    one, other = (None if t is None else tuple(t.shape) for t in (found, wanted))
    if found is None or wanted is None or one != other:
        return f"size mismatch, {one} and {other},"
    # A model may be saved in half precision; floats in the place of counts are no model's.
    if found.is_complex() or found.is_floating_point() != wanted.is_floating_point():
        return f"{found.dtype} in the place of {wanted.dtype}"
    if found.is_floating_point() and not found.float().isfinite().all():
        return "numbers that are not finite"
    return ""


def _not_weights(path: Path, error: Exception | str) -> UserError:
    return UserError(
        f"{path}: expected the weights of the model described beside it; {_reason(error)} The file "
        "is damaged or of another model: fetch or write it again."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        description = read_json(path)
        fits = description["format"] == FORMAT
        version = int(description["version"])
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected the description of a saved model; there is no such file."
        ) from None
    except (ValueError, KeyError, TypeError, OverflowError):
        fits, version = False, 0
    if not fits:
        raise UserError(f'{path}: expected JSON with "format": "{FORMAT}"; got something else.')
    if version > VERSION:
        raise UserError(
            f"{path}: expected version {VERSION} of the format or older; got {version}. Update "
            "rotvq."
        )
    return dict(description)


def _describe(quantizer: Quantizer) -> dict[str, Any]:
    if isinstance(quantizer, FiniteScalarQuantizer):
        described = {"kind": "finite scalar", "levels": list(quantizer.levels)}
        # Of two levels older versions made codes -1 and 0, and they must not read these.
        return described | ({"two_levels": [-1, 1]} if 2 in quantizer.levels else {})
    for kind, several in SEVERAL.items():
        if isinstance(quantizer, several):
            inner: list[Any] = list(quantizer.quantizers)
            return {"kind": kind, "quantizers": [_describe(q) for q in inner]}
    codebook = quantizer.codebook
    names = [name for name, function in ESTIMATORS.items() if function is quantizer.estimator]
    if not names:
        raise UserError(
            f"save: expected an estimator of rotvq; got {quantizer.estimator}. Set "
            "model.quantizer.estimator to one of rotvq.ESTIMATORS; encoding and decoding need none."
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


def _build(description: dict[str, Any]) -> Quantizer:
    values = dict(description)
    kind = values.pop("kind")
    # How a trainer steps the codebook is no property of the model; older files have it.
    values.pop("defer_update", None)
    if kind == "finite scalar":
        if values.pop("two_levels", None) is None and 2 in values["levels"]:
            raise UserError(
                "levels: expected a model whose channels of two levels have the codes -1 and 1; "
                "got one of an older version, where they were -1 and 0. Train it again."
            )
        return FiniteScalarQuantizer(**values, channel_dim=1)
    if kind in SEVERAL:
        several: Quantizer = SEVERAL[kind]([_build(inner) for inner in values["quantizers"]])
        return several
    if kind != "vector":
        raise ValueError(f"the quantizer is {kind!r}")
    update = UPDATES[values.pop("update")](values.pop("decay"))
    restart = values.pop("restart")
    restart = Restart(**restart) if restart else None
    return VectorQuantizer(**values, update=update, restart=restart, channel_dim=1)


def _reason(error: Exception | str) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300] + "."
