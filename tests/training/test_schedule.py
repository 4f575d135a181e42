import math
from itertools import pairwise

import pytest
import torch

from rotvq.training.schedule import WARMUP, constant, cosine, linear, lr_scheduler


def test_the_constant_schedule_is_constant():
    assert {constant(p / 10) for p in range(11)} == {1.0}


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0, 0), (WARMUP / 2, 0.5), (WARMUP, 1), ((1 + WARMUP) / 2, 0.5), (1, 0)],
)
def test_the_cosine_schedule_rises_and_falls(progress, share):
    assert cosine(progress) == pytest.approx(share, abs=1e-12)


def test_the_cosine_schedule_is_continuous():
    values = [cosine(p / 1000) for p in range(1001)]
    steps = [abs(a - b) for a, b in pairwise(values)]
    assert max(steps) < 0.011 and not any(map(math.isnan, values))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_learn(steps):
    """One cycle starts at a rate of 0, which a run of one step would end with."""
    parameter = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = lr_scheduler(optimizer, "cosine", 0.1, steps, 0)
    for _ in range(steps):
        parameter.grad = torch.ones(())
        optimizer.step()
        scheduler.step()
    assert parameter < 1


def test_a_run_follows_its_schedule(tmp_path, data, tiny, begin):
    """The rate at each look, over a run of two epochs."""
    config = tiny(training={"schedule": "cosine", "learning_rate": 1e-3, "epochs": 2})
    trainer = begin(config, data, tmp_path / "run")
    total, rates = 2 * trainer.steps, []

    def look(optimizer, *_):
        rates.append(optimizer.param_groups[0]["lr"])

    trainer.state.optimizer.register_step_pre_hook(look)
    trainer.run()
    assert rates == pytest.approx([1e-3 * cosine(n / total) for n in range(total)])


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("done", [0, 1, 7, 19])
def test_a_resumed_scheduler_continues_with_the_same_rates(schedule, done):
    def rates(done):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = lr_scheduler(optimizer, schedule, 1e-3, 20, done)
        found = []
        for _ in range(done, 20):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    share = {"constant": constant, "cosine": cosine}[schedule]
    assert rates(done) == [1e-3 * share(n / 20) for n in range(done, 20)], "to the bit"


def test_the_rate_of_a_capturable_group_is_a_tensor_that_stays_in_place():
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "capturable": True, "rate": 0.1},
        {"params": [torch.nn.Parameter(torch.zeros(1))]},
    ]
    optimizer = torch.optim.Adam(groups, lr=1.0)
    scheduler = lr_scheduler(optimizer, "cosine", 1e-3, 20, 0)
    first, second = (group["lr"] for group in optimizer.param_groups)
    optimizer.step()
    for n in range(1, 4):
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] is first
        assert first.item() == pytest.approx(1e-4 * cosine(n / 20))
    assert isinstance(second, float)


def test_linear_goes_from_first_to_last():
    assert linear(0.25, None, 0.7) == 0.25
    assert [linear(1.0, 3.0, p) for p in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]


def test_the_decay_of_the_codebook_changes_linearly(tmp_path, data, tiny, begin):
    config = tiny(quantizer={"decay": 0.5, "final_decay": 0.9}, training={"epochs": 2})
    trainer = begin(config, data, tmp_path / "run")
    total, decays = 2 * trainer.steps, []

    def before_step(*_):
        decays.append(trainer.model.quantizer.codebook.decay)

    trainer.state.optimizer.register_step_pre_hook(before_step)
    trainer.run()
    assert decays == pytest.approx([0.5 + 0.4 * n / total for n in range(total)])
