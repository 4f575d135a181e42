"""Rarer test passes, and what is done at an epoch's end before its checkpoint."""

from __future__ import annotations

import json

import pytest

from rotvq.errors import UserError
from rotvq.training import checkpoint
from rotvq.training.config import TrainingConfig


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


def test_an_epoch_ends_before_its_checkpoint_is_written(tmp_path, data, tiny, begin, callback):
    trainer = begin(tiny(), data, tmp_path / "run")
    path, calls = tmp_path / "run/checkpoint.pt", []

    def on_epoch_end(record):
        saved = checkpoint.load(path).position.epoch if path.exists() else 0
        calls.append((record["epoch"], saved))

    trainer.run([callback(on_epoch_end=on_epoch_end)])
    assert calls == [(1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize("crash", [1, 2, 3])
def test_after_a_crash_before_the_checkpoint_the_epoch_ends_again(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, callback, crash
):
    config, reported = tiny(quantizer={"restart": 0.3}), []

    def on_epoch_end(record):
        reported.append(json.loads(json.dumps({**record, "timing": None})))
        if len(reported) == crash:
            raise SystemError("lost")

    with pytest.raises(SystemError, match="lost"):
        begin(config, data, tmp_path / "parts").run([callback(on_epoch_end=on_epoch_end)])
    resumed(config, data, tmp_path / "parts").run([callback(on_epoch_end=on_epoch_end)])
    epochs = [record["epoch"] for record in reported]
    assert epochs == [*range(1, crash + 1), *range(crash, 4)]
    assert reported[crash] == reported[crash - 1]
    assert outcome(tmp_path / "parts") == uninterrupted(config)
