"""Rarer test passes, and what is done at an epoch's end before its checkpoint."""

from __future__ import annotations

import json

import pytest

from rotvq.errors import UserError
from rotvq.training import checkpoint
from rotvq.training.config import TrainingConfig
from rotvq.training.listener import Listener


@pytest.mark.parametrize("value", [0, -1])
def test_less_than_one_is_refused(value):
    with pytest.raises(UserError, match=rf"^training.test_every: expected .*; got {value}\.$"):
        TrainingConfig(test_every=value)


@pytest.mark.parametrize("value", [1.5, "2", None, True])
def test_other_kinds_are_refused(value):
    with pytest.raises(UserError, match=r"^test_every: expected int; got"):
        TrainingConfig(test_every=value)


@pytest.mark.parametrize(("every", "tested"), [(2, [2, 4, 5]), (3, [3, 5]), (9, [5])])
def test_epochs_in_between_are_not_tested_and_the_last_always_is(
    tmp_path, data, tiny, begin, outcome, uninterrupted, every, tested
):
    epochs = {"epochs": 5}
    begin(tiny(training={**epochs, "test_every": every}), data, tmp_path / "run").run()
    ours, whole = outcome(tmp_path / "run"), uninterrupted(tiny(training=epochs))
    assert [record["epoch"] for record in ours["records"] if record["test"]] == tested
    # A test changes nothing of the training: all else is as if every epoch were tested.
    for mine, theirs in zip(ours["records"], whole["records"], strict=True):
        assert mine == {**theirs, "test": theirs["test"] if mine["epoch"] in tested else {}}
    for name in ("checkpoint", "weights", "evaluation", "pictures", "files"):
        assert ours[name] == whole[name], name


def test_closing_comes_before_the_epochs_checkpoint_and_its_line_after(tmp_path, data, tiny, begin):
    trainer = begin(tiny(), data, tmp_path / "run")
    path, told = tmp_path / "run/checkpoint.pt", []

    def saved():
        return checkpoint.load(path).position.epoch if path.exists() else 0

    trainer.run(
        Listener(
            closing=lambda record: told.append(("closing", record["epoch"], saved())),
            epoch=lambda record: told.append(("epoch", record["epoch"], saved())),
        )
    )
    assert told == [
        ("closing", 1, 0), ("epoch", 1, 1), ("closing", 2, 1), ("epoch", 2, 2),
        ("closing", 3, 2), ("epoch", 3, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("crash", [1, 2, 3])
def test_after_a_crash_before_the_checkpoint_closing_comes_again(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, crash
):
    config, told = tiny(quantizer={"restart": 0.3}), []

    def closing(record):
        told.append(json.loads(json.dumps({**record, "timing": None})))
        if len(told) == crash:
            raise SystemError("lost")

    with pytest.raises(SystemError, match="lost"):
        begin(config, data, tmp_path / "parts").run(Listener(closing=closing))
    resumed(config, data, tmp_path / "parts").run(Listener(closing=closing))
    epochs = [record["epoch"] for record in told]
    assert epochs == [*range(1, crash + 1), *range(crash, 4)]
    assert told[crash] == told[crash - 1]
    assert outcome(tmp_path / "parts") == uninterrupted(config)
