"""Steps with non-finite gradients are skipped and reported, and end a run if they persist."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from rotvq.data_processing import epoch_order
from rotvq.errors import UserError
from rotvq.training import checkpoint, monitor

pytestmark = pytest.mark.usefixtures("read_every_step")


def spoil(trainer):
    """Make the model's next outputs nan, as an exploded step would."""
    with torch.no_grad():
        trainer.model.decoder[0].first.weight.fill_(math.nan)


def test_a_run_stops_after_several_bad_steps_in_a_row(
    monkeypatch, tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, callback
):
    monkeypatch.setattr(monitor, "PATIENCE", 3)
    config = tiny()
    trainer = begin(tiny(), data, tmp_path / "parts")
    saved, reported = [], []

    def seen(images, means):
        if images == 48:
            saved.append((tmp_path / "parts/checkpoint.pt").read_bytes())
            spoil(trainer)

    with pytest.raises(UserError, match=r"not finite in 3 steps in a row after 72 im") as error:
        trainer.run([callback(on_images=seen, on_bad_step=reported.append)])
    assert "\n" not in str(error.value)
    assert "learning_rate" in str(error.value)
    assert [sentence.split(" was")[0] for sentence in reported] == ["Step 7", "Step 8", "Step 9"]
    assert (tmp_path / "parts/checkpoint.pt").read_bytes() == saved[0]
    shutil.rmtree(tmp_path / "parts/bad_steps")
    resumed(tiny(), data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


@pytest.mark.parametrize("where", ["forward", "gradient"])
@pytest.mark.parametrize("looks", [-1.0, 3600.0])
def test_a_bad_step_is_skipped_and_reported(
    monkeypatch, tmp_path, data, tiny, begin, where, looks, callback
):
    monkeypatch.setattr(monitor, "READ_EVERY", looks)
    trainer = begin(tiny(training={"epochs": 1}), data, tmp_path / "run")
    layer, kept, reported = trainer.model.decoder[0].first, {}, []
    steps = []

    def forward(module, inputs):
        steps.append(None)
        if len(steps) == 3:
            kept.update(images=trainer.position.images, weight=layer.weight.detach().clone())
            if where == "forward":
                return (inputs[0] * math.nan,)

    def backward(gradient):
        return gradient * math.inf if len(steps) == 3 else gradient

    def after(module, inputs, output):
        if len(steps) == 4:
            kept["after"] = layer.weight.detach().clone()

    layer.register_forward_pre_hook(forward)
    layer.register_forward_hook(after)
    if where == "gradient":
        layer.weight.register_hook(backward)
    trainer.run([callback(on_bad_step=reported.append)])
    assert torch.equal(kept["weight"], kept["after"])
    assert len(reported) == 1 and reported[0].startswith("Step 3 was skipped")
    report = json.loads((tmp_path / "run/bad_steps/step_00000003.json").read_text())
    saved = np.load(tmp_path / "run/bad_steps/step_00000003.npz")["images"]
    order = epoch_order(len(data.train.images), 0, 0)[16:24]
    assert report["images"] == order.tolist() and report["weights_finite"]
    assert np.array_equal(saved, data.train.images[order])
    record = json.loads((tmp_path / "run/epochs.jsonl").read_text())
    assert record["bad_steps"] == 1
    assert all(math.isfinite(value) for value in record["train"].values())


def test_an_epoch_without_a_good_step_ends_the_run(tmp_path, data, tiny, begin):
    trainer = begin(tiny(), data, tmp_path / "run")
    spoil(trainer)
    with pytest.raises(UserError, match="the loss is nan after 40 images"):
        trainer.run()
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_an_absurd_learning_rate_is_reported(tmp_path, data, tiny, begin):
    config = tiny(training={"learning_rate": 1e30, "precision": "fp32"})
    with pytest.raises(UserError, match=r"the test loss is (nan|inf)"):
        begin(config, data, tmp_path / "run").run()
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_bad_weights_of_the_last_step_do_not_reach_the_checkpoint(
    tmp_path, data, tiny, begin, callback
):
    trainer = begin(tiny(), data, tmp_path / "run")

    def seen(images, means):
        if images == 80:
            spoil(trainer)

    with pytest.raises(UserError, match="the test loss is nan after 80 i"):
        trainer.run([callback(on_images=seen)])
    state = checkpoint.load(tmp_path / "run/checkpoint.pt")
    assert state.position.epoch == 1
    assert all(t.isfinite().all() for t in state.model.values() if t.is_floating_point())


@pytest.mark.parametrize("micro_batch", [0, 1])
def test_in_fp16_the_loss_of_every_micro_batch_is_watched(
    tmp_path, data, tiny, begin, callback, micro_batch
):
    trainer = begin(tiny(training={"epochs": 1, "micro_batch_size": 4}), data, tmp_path / "run")
    # As on a GPU, but for the scale: a CPU refuses fp16 in the configuration.
    trainer.precision = "fp16"
    messages, calls = [], []

    def forward(module, inputs):
        if module.training:
            calls.append(None)
            if len(calls) == 2 * 2 + micro_batch + 1:  # in the third step
                return (inputs[0] * math.inf,)

    trainer.model.decoder.register_forward_pre_hook(forward)
    trainer.run([callback(on_bad_step=messages.append)])
    assert [message.split(" was")[0] for message in messages] == ["Step 3"]
    report = json.loads((tmp_path / "run/bad_steps/step_00000003.json").read_text())
    assert report["watched"] == "loss"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_watched_number_is_the_gradient_norm_or_in_fp16_the_mean_loss(precision, place):
    counts = monitor.BadSteps()
    watch = monitor.Monitor(Accelerator(cpu=True), precision, counts)
    losses = [torch.tensor(float(n)) for n in (1, 2, 6)]
    watch.add(losses, torch.tensor(math.inf))
    losses[place] = torch.tensor(math.nan)
    watch.add(losses, torch.tensor(4.0))
    bad = watch.read()
    assert [*bad] == ([2] if precision == "fp32" else [1])
    assert (counts.total, len(watch)) == (1, 0)
