"""A checkpoint of another kind anywhere is refused in a line before anything computes with it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from sealed import write_sealed

from rotvq.errors import UserError
from rotvq.training import archive, checkpoint
from rotvq.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

KINDS = {
    "nothing": None,
    "text": "text",
    "bytes": b"bytes",
    "list": [],
    "mapping": {},
    "tuple": (),
    "set": {1},
    "a huge integer": 2**70,
    "complex": 1j,
    "truth": True,
    "tensor": torch.zeros(2, 3, 5),
}


HOW = ("foreach", "fused", "capturable")
"""Switches of an optimizer, which may be unset."""


def others(leaf: Any) -> Iterator[tuple[str, Any]]:
    """Values of another kind than a leaf."""
    for name, value in KINDS.items():
        if type(value) is not type(leaf) or name == "a huge integer":
            yield name, value
    if isinstance(leaf, torch.Tensor):
        yield "one more", torch.zeros(leaf.numel() + 1, dtype=leaf.dtype)
        yield "one dimension more", leaf[None]
        yield "dtype", leaf.to(torch.float64 if leaf.dtype != torch.float64 else torch.float32)
        yield "sparse", leaf.to_sparse()
        yield "meta", leaf.to("meta")
        if leaf.numel() > 1:
            yield "short", torch.zeros(2, dtype=leaf.dtype)
            yield "expanded", torch.zeros(1, dtype=leaf.dtype).expand(leaf.shape)
        if leaf.is_floating_point() and leaf.dim():
            yield "nested", torch.nested.as_nested_tensor([leaf])


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the entries of nested mappings and lists are, themselves included."""
    if path:
        yield path
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    if isinstance(node, dict | list | tuple):
        for key, value in entries:
            yield from places(value, (*path, key)) if _has_entries(value) else [(*path, key)]


def _has_entries(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place; what is not on the way there is shared."""
    new = changed(content[path[0]], path[1:], value) if path[1:] else value
    if isinstance(content, tuple):
        return (*content[: path[0]], new, *content[path[0] + 1 :])
    copy = content.copy()
    copy[path[0]] = new
    return copy


@pytest.fixture
def run(tmp_path, data, tiny, begin):
    """The configuration and folder of a finished run, and what its checkpoint holds."""
    config = tiny(training={"epochs": 2, "ema_decay": 0.9}, quantizer={"restart": 0.1})
    begin(config, data, tmp_path / "run").run()
    path = tmp_path / "run/checkpoint.pt"
    with path.open("rb") as file:
        return config, path, archive.read(file)


def refused(trainer, path):
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        trainer.resume()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_every_entry_of_another_kind_is_refused(run, data, monkeypatch):
    config, path, whole = run
    trainer = Trainer(config, data, path.parent)
    before = deepcopy(trainer.state.capture())
    taken, cases = [], 0
    for place in places(whole):
        for name, value in others(at(whole, place)):
            if place[-1] in HOW and name in ("truth", "nothing"):
                continue
            cases += 1
            read = partial(dict, changed(whole, place, value))
            monkeypatch.setattr(checkpoint.archive, "read", lambda file, read=read: read())
            try:
                trainer.state.restore(path, config.training, trainer.steps, totals=True)
                taken.append((place, name))
            except UserError as error:
                assert "\n" not in str(error)
    assert taken == []
    assert cases > 2000
    assert_same(trainer.state.capture(), before)


def assert_same(state, other):
    """A refused checkpoint changes nothing."""
    for part in ("model", "average", "totals"):
        for name, t in getattr(state, part).items():
            assert torch.equal(t, getattr(other, part)[name]), name
    assert state.optimizer["state"] == other.optimizer["state"] == {}
    assert state.position == other.position


@pytest.mark.parametrize("seed", range(12))
def test_a_file_of_another_kind_is_refused_and_changes_nothing(run, data, seed):
    """As above, through a file with a right checksum."""
    config, path, whole = run
    draw = random.Random(seed)
    place = draw.choice([*places(whole)])
    kinds = [*others(at(whole, place))]
    write_sealed(path, changed(whole, place, draw.choice(kinds)[1]))
    files = {each: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    refused(Trainer(config, data, path.parent), path)
    assert {each: each.read_bytes() for each in path.parent.iterdir() if each.is_file()} == files


def test_the_unchanged_content_is_accepted(run, data, outcome):
    config, path, whole = run
    before = outcome(path.parent)
    write_sealed(path, whole)
    trainer = Trainer(config, data, path.parent)
    trainer.resume()
    trainer.run()
    assert outcome(path.parent) == before


@pytest.mark.parametrize(("option", "value"), [("fused", None), ("capturable", None), ("lr", 0.5)])
def test_how_steps_are_computed_is_not_part_of_a_run(run, data, outcome, option, value):
    config, path, whole = run
    before = outcome(path.parent)
    write_sealed(path, changed(whole, ("optimizer", "param_groups", 0, option), value))
    trainer = Trainer(config, data, path.parent)
    trainer.resume()
    trainer.run()
    assert outcome(path.parent) | {"checkpoint": None} == before | {"checkpoint": None}


def test_a_run_from_before_matrices_decayed_goes_on(tmp_path, data, tiny, begin):
    config = tiny(training={"optimizer": "muon"})
    begin(config, data, tmp_path / "run").run()
    path = tmp_path / "run/checkpoint.pt"
    with path.open("rb") as file:
        whole = archive.read(file)
    groups = [
        {name: value for name, value in group.items() if name != "decay"}
        for group in whole["optimizer"]["param_groups"]
    ]
    assert groups != whole["optimizer"]["param_groups"]
    write_sealed(path, changed(whole, ("optimizer", "param_groups"), groups))
    Trainer(config, data, path.parent).resume()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("position", "epoch"), 1),
        (("position", "epoch"), 10**9),
        (("position", "step"), 5),
        (("position", "step"), -5),
        (("position", "images"), 79),
        (("position", "seconds"), -1.0),
        (("position", "bad", "total"), -1),
        (("position", "history"), []),
        (("position", "history", 1, "epoch"), 1),
        (("position", "history", 0, "train", "x" * 200), 1.0),
        (("position", "history", 0, "codebook", "warning"), "x" * 5000),
        (("position", "history", 0, "more"), 1.0),
        (("optimizer", "state", 10**6), {}),
        (("optimizer", "param_groups"), []),
        (("model", "encoder"), torch.zeros(1)),
        (("average", "n_averaged"), torch.tensor([1])),
        (("generator",), torch.zeros(5056, dtype=torch.uint8)),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(run, data, place, value):
    config, path, whole = run
    write_sealed(path, changed(whole, place, value))
    refused(Trainer(config, data, path.parent), path)


@pytest.mark.parametrize("part", ["model", "average"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run, data, part, value):
    config, path, whole = run
    name = next(name for name, t in whole[part].items() if t.is_floating_point() and t.dim() > 1)
    bad = whole[part][name].clone()
    bad[(0,) * bad.dim()] = value
    write_sealed(path, changed(whole, (part, name), bad))
    refused(Trainer(config, data, path.parent), path)


@pytest.mark.parametrize("layout", ["contiguous", "shared"])
def test_moments_are_laid_out_as_their_parameters(run, data, layout):
    """The fused optimizer walks through both in the order of memory, and writes to each."""
    config, path, whole = run
    state = whole["optimizer"]["state"]
    if layout == "contiguous":
        new = {i: {n: t.contiguous() for n, t in s.items()} for i, s in state.items()}
        assert any(new[i]["exp_avg"].stride() != state[i]["exp_avg"].stride() for i in state)
    else:
        new = {i: {**s, "exp_avg_sq": s["exp_avg"]} for i, s in state.items()}
    write_sealed(path, changed(whole, ("optimizer", "state"), new))
    trainer = Trainer(config, data, path.parent)
    trainer.resume()
    for i, parameter in enumerate(trainer.model.parameters()):
        found = trainer.state.optimizer.state[parameter]
        moments = found["exp_avg"], found["exp_avg_sq"]
        for name, moment in zip(("exp_avg", "exp_avg_sq"), moments, strict=True):
            assert moment.stride() == parameter.stride()
            assert torch.equal(moment, new[i][name])
        assert moments[0].data_ptr() != moments[1].data_ptr()
