"""Checking that a checkpoint belongs to the run that resumes from it.

This comes before any computation: the fused optimizer trusts shapes and strides, and writes out of
bounds if they are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rotvq.errors import UserError, first_line
from rotvq.training.checkpoint import Checkpoint, Position, load

Moments = Mapping[str, Tensor]

LONGEST = 4096
"""Maximum number of characters of a text in the record of an epoch."""


def load_checked(
    path: Path, fresh: Checkpoint, moments: Sequence[Moments], steps: int, batch_size: int
) -> Checkpoint:
    """Read the checkpoint of a run.

    Args:
        path: path of the checkpoint.
        fresh: the state of the same run before its first step.
        moments: moments of the optimizer, as `optimizer.moments` returns them.
        steps: steps per epoch.
        batch_size: images of a step.

    Raises:
        UserError: it is damaged or belongs to another run; the message names the first difference.
    """
    saved = load(path)
    try:
        for part in ("model", "average", "discriminator", "scaler", "generator", "totals"):
            _alike(getattr(saved, part), getattr(fresh, part), part)
        for weights in (saved.model, saved.average or {}, saved.discriminator or {}):
            for name, t in weights.items():
                _require(bool(t.isfinite().all()), name, "finite numbers", "others")
        torch.Generator().set_state(saved.generator)
        _check_optimizer(saved.optimizer, fresh.optimizer["param_groups"], moments)
        _check_position(saved.position, steps, batch_size)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: expected a checkpoint of the configuration beside it; it belongs to another "
            f"model or was altered ({first_line(error)}). Remove it to restart the run, or pass "
            "--overwrite."
        ) from None
    return saved


def placed(
    saved: dict[str, Any], optimizer: Optimizer, moments: Sequence[Moments]
) -> dict[str, Any]:
    """The optimizer's state, each moment in its own memory with the layout of its parameter.

    Args:
        saved: the state from `load_checked`.
        optimizer: the optimizer, whose options are kept.
        moments: moments of the optimizer.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for i, like in enumerate(moments):
        if i in saved["state"]:
            found = saved["state"][i]
            state[i] = {
                name: torch.empty_like(t).detach().copy_(found[name]) for name, t in like.items()
            }
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def _alike(found: Any, expected: Any, name: str) -> None:
    """Check that two values have the same keys, types and shapes; numbers may differ."""
    if isinstance(expected, Tensor):
        _check_tensor(found, expected, name)
    elif isinstance(expected, Mapping):
        _require(isinstance(found, dict), name, "a mapping", _kind(found))
        missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
        _require(not missing, name, f"an entry {next(iter(missing), None)}", "none")
        _require(not unknown, name, "no other entries", f"{next(iter(unknown), None)!r:.99}")
        for key, value in expected.items():
            _alike(found[key], value, f"{name}.{key}")
    else:
        _require(type(found) is type(expected), name, _kind(expected), _kind(found))
        if isinstance(expected, list | tuple):
            _require(len(found) == len(expected), name, f"{len(expected)} entries", len(found))
            for place, (one, other) in enumerate(zip(found, expected, strict=True)):
                _alike(one, other, f"{name}.{place}")
        elif type(expected) in (int, float):
            _number(found, name)


def _check_tensor(found: Any, expected: Tensor, name: str) -> None:
    # Nested tensors have the same class, and no shape.
    plain = type(found) is Tensor and not found.is_nested and found.layout == torch.strided
    plain = plain and found.device.type == "cpu" and not found.is_neg() and not found.is_conj()
    _require(plain, name, "a tensor", _kind(found) if type(found) is not Tensor else "another kind")
    for what in ("dtype", "shape"):
        one, other = getattr(found, what), getattr(expected, what)
        _require(one == other, name, f"{what} {_short(other)}", _short(one))
    dense = found.is_contiguous() or found.stride() == expected.stride()
    _require(dense, name, f"strides {expected.stride()}", found.stride())


def _check_optimizer(found: Any, groups: Any, moments: Sequence[Moments]) -> None:
    """Check an optimizer's state. Parameters without gradients have no moments, and options of
    groups may have other values."""
    _require(isinstance(found, dict), "optimizer", "a mapping", _kind(found))
    state, theirs = found.get("state"), found.get("param_groups")
    _require(isinstance(state, dict), "optimizer.state", "a mapping", _kind(state))
    expected = {i: like for i, like in enumerate(moments) if i in state}
    _alike(state, expected, "optimizer.state")
    name = "optimizer.param_groups"
    _require(type(theirs) is list and len(theirs) == len(groups), name, "a list", _kind(theirs))
    for group, own in zip(theirs, groups, strict=True):
        _require(isinstance(group, dict), name, "mappings", _kind(group))
        # How torch computes a step differs between devices.
        how = {"foreach", "fused", "capturable"} & group.keys()
        for key in how:
            fits = group[key] is None or type(group[key]) is bool
            _require(fits, f"{name}.{key}", "true, false or nothing", _kind(group[key]))
        # Newer versions of torch add options.
        both = (own.keys() & group.keys()) - how
        _alike({key: group[key] for key in both}, {key: own[key] for key in both}, name)


def _check_position(at: Position, steps: int, batch_size: int) -> None:
    counts = {"epoch": at.epoch, "step": at.step, "images": at.images} | vars(at.bad)
    for name, value in counts.items():
        _require(type(value) is int, f"position.{name}", "a whole number", _kind(value))
        _number(value, f"position.{name}", least=0)
    _number(at.seconds, "position.seconds", least=0)
    _require(type(at.history) is list, "position.history", "a list", _kind(at.history))
    done = (at.epoch * steps + at.step) * batch_size
    _require(at.step < steps and at.images == done, "position.images", done, at.images)
    _require(len(at.history) == at.epoch, "position.history", f"{at.epoch} epochs", len(at.history))
    for number, record in enumerate(at.history, start=1):
        _check_record(record, f"position.history.{number}", number)


def _check_record(record: Any, name: str, number: int) -> None:
    """Check that the record of an epoch has numbers wherever epochs.jsonl has them."""
    _require(isinstance(record, dict), name, "a mapping", _kind(record))
    groups, optional = ("train", "test", "codebook", "timing"), {"bad_steps", "codebook"}
    known = {"epoch", "images", *groups, *optional}
    _require({*record} | optional == known, name, f"the entries {known}", "others")
    for key in known & record.keys():
        value, where = record[key], f"{name}.{key}"
        if key not in groups:
            _require(type(value) is int, where, "a whole number", _kind(value))
            _number(value, where, least=0)
            continue
        _require(isinstance(value, dict), where, "a mapping", _kind(value))
        for entry, each in value.items():
            _require(type(entry) is str and len(entry) < 100, where, "short names", _kind(entry))
            if (key, entry) == ("codebook", "warning"):
                fits = type(each) is str and len(each) <= LONGEST
                _require(fits, f"{where}.{entry}", "text", _kind(each))
            elif key == "codebook" and type(each) is tuple and 0 < len(each) < 100:
                for one in each:
                    _number(one, f"{where}.{entry}")
            else:
                _number(each, f"{where}.{entry}")
    _require(record["epoch"] == number, f"{name}.epoch", number, record["epoch"])


def _number(value: Any, name: str, least: float = -math.inf) -> None:
    """Check that a value is a 64-bit number; nan and infinity are allowed."""
    _require(type(value) in (int, float), name, "a number", _kind(value))
    fits = isinstance(value, float) or abs(value) < 2**63
    _require(fits and not value < least, name, f"{least} or more", "another number")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _short(value: object) -> str:
    return str(tuple(value)) if isinstance(value, torch.Size) else str(value)


def _require(holds: bool, name: str, expected: object, received: object) -> None:
    if not holds:
        raise ValueError(f"{name[:200]}: expected {expected}, got {received}")
