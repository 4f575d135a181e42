"""A recorded step against the same step without a recording: on a GPU, a CUDA graph."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from no_waiting import NoWaiting, like_on_a_gpu
from torch import nn

from rotvq.training import step
from rotvq.training.trainer import Trainer

HERE = "cuda" if torch.cuda.is_available() else "cpu"


def repeated(work):
    """In place of a graph: the work, whose results end up where a recording would leave them."""
    outcome = [torch.zeros(())], torch.zeros(())

    def replay() -> None:
        losses, norm = work()
        outcome[0][0].copy_(losses[0])
        outcome[1].copy_(norm)

    return replay, outcome


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_recorded_steps_are_the_same(optimizer, data, tiny, begin, tmp_path, monkeypatch):
    config = tiny(
        data={"random_flip": True},
        quantizer={"decay": 0.5, "final_decay": 0.9, "init": "data", "restart": 0.1},
        training={
            "device": "auto",
            "optimizer": optimizer,
            "schedule": "cosine",
            "gradient_clip": 0.1,
        },
    )
    if HERE == "cpu":
        monkeypatch.setattr(step, "cuda_graph", repeated)
    weights, records = [], []
    for repeatable in (False, True):
        monkeypatch.setattr(Trainer, "repeatable", property(lambda run, value=repeatable: value))
        trainer = begin(config, data, tmp_path / str(repeatable))
        trainer.run()
        weights.append(trainer.model.state_dict())
        records.append([{**epoch, "timing": {}} for epoch in trainer.position.history])
    if HERE == "cpu":
        assert records[0] == records[1]
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, True),
        ({"training": {"effort": 1}}, False),
        ({"training": {"adversarial_weight": 0.1}}, False),
        ({"quantizer": {"residual": 2, "dropout": 0.5}}, False),
    ],
)
def test_only_steps_that_are_all_alike_are_recorded(changes, expected, tiny):
    device, one = torch.device("cuda"), SimpleNamespace(num_processes=1)
    run = SimpleNamespace(
        config=tiny(**changes),
        device=device,
        accelerator=one,
        wrapped=nn.Identity(),
        _placed=True,
    )
    assert Trainer.repeatable.fget(run) is expected
    for name, value in (
        ("accelerator", SimpleNamespace(num_processes=2)),
        ("wrapped", nn.Sequential(torch.jit.ScriptModule())),
        ("_placed", False),
    ):
        other = SimpleNamespace(**{**vars(run), name: value})
        assert Trainer.repeatable.fget(other) is False


def test_steps_on_a_cpu_are_not_recorded(data, tiny, begin, tmp_path):
    assert begin(tiny(training={"device": "cpu"}), data, tmp_path / "run").repeatable is False


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": {"optimizer": "muon", "gradient_clip": 0.1, "micro_batch_size": 4}},
        {"model": {"network": "attention"}, "quantizer": {"restart": 0.03, "final_decay": 0.999}},
        {"quantizer": {"scales": "1,2"}, "training": {"pixel_loss": "l1"}},
        {"quantizer": {"residual": 2, "groups": 2}},
        {"quantizer": {"metric": "cosine", "update": "gradient"}},
        {"quantizer": {"update": "linear"}, "training": {"entropy_weight": 0.1}},
        {"quantizer": {"codes": "lookup_free", "codebook_size": 2**8}},
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_on_a_gpu_waits_for_nothing(changes, data, tiny, begin, tmp_path, monkeypatch):
    like_on_a_gpu(monkeypatch)
    trainer = begin(tiny(**changes), data, tmp_path / "run")
    order = trainer.order(0)
    for number in range(3):
        batch = trainer.batch(order, number)
        trainer.before_step(order, 0.1 * number)
        with NoWaiting() if number else nullcontext():
            step.take(trainer, batch)
