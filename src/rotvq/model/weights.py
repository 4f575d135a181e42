"""Weights as a safetensors file, checked before a model takes memory for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.guarded import open_regular

M = TypeVar("M", bound=nn.Module)


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""In which weights can be saved."""


def encode_weights(model: nn.Module, dtype: torch.dtype | None = None) -> bytes:
    """The weights as the content of a safetensors file.

    Args:
        model: a model with finite weights.
        dtype: dtype of all floating-point weights; None to keep theirs.

    Raises:
        UserError: another dtype, several quantizers share one codebook, or weights are not finite
            in that dtype.
    """
    if dtype not in (None, *DTYPES):
        raise UserError(
            f"dtype: expected {', '.join(map(str, DTYPES))}, or None; got {dtype}. Other dtypes do "
            "not hold weights."
        )
    tensors = model.state_dict(keep_vars=True)
    if len(set(map(id, tensors.values()))) < len(tensors):
        raise UserError(
            "save: expected a codebook of its own in each quantizer; got several quantizers that "
            "share one. Save the state_dict yourself."
        )
    state = {
        name: t.detach().to("cpu", dtype if t.is_floating_point() else None).contiguous()
        for name, t in tensors.items()
    }
    for name, t in state.items():
        if not t.isfinite().all():
            raise UserError(
                f"save: expected finite weights; got nan or infinity in {name}. Load an earlier "
                "checkpoint."
            )
    return to_bytes(state)


def load_weights(build: Callable[[], M], path: Path) -> M:
    """A model with the weights of a file, in evaluation mode.

    Args:
        build: makes the model. It is first called without allocating memory, as a damaged file may
            ask for more than there is.
        path: path of the weights.

    Raises:
        UserError: the file is missing or damaged, belongs to another model, or holds numbers that
            are not finite.
    """
    found = _read(path)
    with torch.device("meta"):
        wanted = build().state_dict()
    for name in wanted | found:
        if reason := _difference(found.get(name), wanted.get(name)):
            raise _not_weights(path, f"{reason} in {name}")
    model = build()
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise _not_weights(path, error) from None
    return model.eval()


def one_line(error: Exception | str) -> str:
    """The message of an error as one short sentence."""
    return " ".join(str(error).split()).rstrip(".")[:300] + "."


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file by name, in no more memory than the file has bytes."""
    try:
        # From bytes, as safetensors cannot open a path that is not UTF-8.
        with open_regular(path) as file:
            return from_bytes(file.read())
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected the weights of a model; there is no such file."
        ) from None
    except UserError:
        raise
    # A crafted header names types and lengths that raise any of these.
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _not_weights(path, error) from None


def _difference(found: Tensor | None, wanted: Tensor | None) -> str:
    """Why a tensor cannot take the place of another; empty if it can."""
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
        f"{path}: expected the weights of the model in config.json; {one_line(error)} The file is "
        "damaged or belongs to another model: download it or save the model again."
    )
