"""Checkpoints: they come back whole, run no code, and say when they cannot."""

from __future__ import annotations

import os
import re
import resource
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sealed import write_sealed

from rotvq.errors import UserError
from rotvq.training import archive, checkpoint
from rotvq.training.build import build_model
from rotvq.training.checkpoint import Checkpoint, Position
from rotvq.training.monitor import BadSteps


def made() -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    return Checkpoint(
        model={"w": torch.randn(3, 2, generator=generator), "n": torch.tensor(True)},
        average=None,
        optimizer={"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
        scaler=None,
        generator=torch.get_rng_state(),
        totals={"sums": torch.arange(4.0)},
        position=Position(
            2, 3, 104, 1.5, BadSteps(2, 1), [{"epoch": 1, "test": {"psnr": float("inf")}}]
        ),
    )


def test_a_checkpoint_loads_unchanged(tmp_path):
    path, written = tmp_path / "checkpoint.pt", made()
    checkpoint.save(path, written)
    read = checkpoint.load(path)
    assert read.position == written.position
    assert torch.equal(read.model["w"], written.model["w"])
    assert torch.equal(read.generator, written.generator)
    assert torch.equal(read.optimizer["state"][0]["exp_avg"], torch.ones(2))
    assert read.optimizer["param_groups"] == [{"lr": 1e-3}]
    assert torch.equal(read.totals["sums"], torch.arange(4.0))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, made())
    whole = path.read_bytes()
    for place in range(0, len(whole), 17):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        refused(path)


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.settle(path) == ""
    for images in (8, 16):
        checkpoint.save(path, replace(made(), position=Position(images=images)))
    assert checkpoint.settle(path) == ""
    assert checkpoint.load(path).position.images == 16
    path.write_bytes(path.read_bytes()[:-100])
    assert "was damaged" in checkpoint.settle(path)
    assert checkpoint.load(path).position.images == 8
    assert checkpoint.settle(path) == ""


def test_a_crash_between_the_two_renames_costs_nothing(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, made())
    path.rename(checkpoint.before(path))
    assert checkpoint.settle(path) == ""
    assert checkpoint.load(path).position == made().position


def test_two_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for damaged in (path, checkpoint.before(path)):
        damaged.write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        checkpoint.settle(path)


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
def test_a_full_disk_is_reported_and_keeps_the_old_file(tmp_path, tiny, kind):
    model = build_model(tiny())
    path = tmp_path / "file"

    def save():
        if kind == "weights":
            checkpoint.save_weights(path, model)
        else:
            checkpoint.save(path, replace(made(), model=model.state_dict()))

    save()
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
def test_files_have_the_usual_permissions(tmp_path, tiny, kind):
    """safetensors' own writing leaves a file behind when it is killed, and readable to no other."""
    if kind == "weights":
        checkpoint.save_weights(tmp_path / "file", build_model(tiny()))
    else:
        checkpoint.save(tmp_path / "file", made())
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_positions_do_not_share_a_history():
    a, b = Position(), Position()
    a.history.append({})
    assert b.history == []


def refused(path):
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)
    assert "--overwrite" in str(error.value)
    # torch's own advice is the opposite of ours.
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_off_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, made())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path)


def test_garbage_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"\x00garbage" * 50)
    refused(path)


def content(**changes):
    """What a whole checkpoint holds, with entries changed; ... removes one."""
    state = made()
    whole = {**vars(state), "position": asdict(state.position), "format": checkpoint.FORMAT}
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def test_the_unchanged_content_is_accepted(tmp_path):
    write_sealed(tmp_path / "checkpoint.pt", content())
    assert checkpoint.load(tmp_path / "checkpoint.pt").position == made().position


@pytest.mark.parametrize(
    "other",
    [
        {},
        [],
        torch.zeros(3),
        *({"format": version} for version in (1, 4)),
        *(content(format=version) for version in (..., 3, 5, None, torch.tensor(4))),
        *(content(position=position) for position in (..., None, {"epoch": 1, "unknown": 2}, {})),
        content(position={"bad": {"unknown": 1}}),
        content(model=...),
        content(extra=1),
    ],
)
def test_other_content_is_refused(tmp_path, other, loaded):
    path = tmp_path / "checkpoint.pt"
    write_sealed(path, other)
    refused(path)
    assert loaded == [True], "the file passes all checks before torch.load"


@pytest.fixture
def loaded(monkeypatch):
    """Whether each call of torch.load succeeded."""
    calls, load = [], torch.load

    def spy(*args, **kwargs):
        calls.append(False)
        content = load(*args, **kwargs)
        calls[-1] = True
        return content

    monkeypatch.setattr(torch, "load", spy)
    return calls


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize("guard", ["names", "torch"])
def test_a_checkpoint_runs_no_code(tmp_path, monkeypatch, loaded, guard):
    """Our check of names refuses the file; without it, torch.load does."""
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    write_sealed(path, content(model=Malicious(str(trace))))
    if guard == "torch":
        monkeypatch.setattr(archive, "_check_names", lambda pickled: None)
    refused(path)
    assert loaded == ([] if guard == "names" else [False])
    assert not trace.exists()
    torch.load(path, weights_only=False)["model"].close()
    assert trace.exists(), "the attack itself works"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_a_regular_file_is_read(tmp_path, kind):
    path = tmp_path / "checkpoint.pt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    refused(path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path, data, tiny, begin):
    begin(tiny(training={"epochs": 1}), data, tmp_path / "small").run()
    trainer = begin(tiny(model={"width": 16}), data, tmp_path / "large")
    (tmp_path / "large/checkpoint.pt").write_bytes((tmp_path / "small/checkpoint.pt").read_bytes())
    with pytest.raises(UserError, match=re.escape("checkpoint.pt")) as error:
        trainer.resume()
    assert "\n" not in str(error.value)


def test_weights_are_plain_safetensors(tmp_path, tiny):
    model = build_model(tiny()).to(memory_format=torch.channels_last)
    checkpoint.save_weights(tmp_path / "model.safetensors", model)
    read = load_file(tmp_path / "model.safetensors")
    state = model.state_dict()
    assert set(read) == set(state)
    assert all(torch.equal(read[name], state[name]) for name in state)
    assert {
        "quantizer.codebook.embeddings",
        "quantizer.codebook.cluster_size",
        "quantizer.codebook.embed_sum",
    } <= set(read)
