import math
from itertools import pairwise

import pytest

from rotvq.training.schedule import WARMUP, constant, cosine, even


def test_constant_stays():
    assert {constant(p / 10) for p in range(11)} == {1.0}


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0, 0), (WARMUP / 2, 0.5), (WARMUP, 1), ((1 + WARMUP) / 2, 0.5), (1, 0)],
)
def test_cosine_rises_and_falls(progress, share):
    assert cosine(progress) == pytest.approx(share, abs=1e-12)


def test_cosine_has_no_jump():
    values = [cosine(p / 1000) for p in range(1001)]
    steps = [abs(a - b) for a, b in pairwise(values)]
    assert max(steps) < 0.011 and not any(map(math.isnan, values))


def test_a_run_follows_its_schedule(tmp_path, data, tiny, begin):
    """The rate at each look, over a run of two epochs."""
    config = tiny(training={"schedule": "cosine", "learning_rate": 1e-3, "epochs": 2})
    trainer = begin(config, data, tmp_path / "run")
    total, rates = 2 * trainer.steps, []

    def look(optimizer, *_):
        rates.append(optimizer.param_groups[0]["lr"])

    trainer.optimizer.register_step_pre_hook(look)
    trainer.run()
    assert rates == pytest.approx([1e-3 * cosine(n / total) for n in range(total)])


def test_even_steps_from_first_to_last():
    assert even(0.25, None, 0.7) == 0.25
    assert [even(1.0, 3.0, p) for p in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]


def test_beta_and_decay_move_evenly(tmp_path, data, tiny, begin, monkeypatch):
    config = tiny(
        quantizer={"decay": 0.5, "final_decay": 0.9},
        training={"beta": 0.25, "final_beta": 1.25, "epochs": 2},
    )
    trainer = begin(config, data, tmp_path / "run")
    total, seen = 2 * trainer.steps, []

    def look(*_):
        seen.append((trainer.beta, trainer.model.quantizer.codebook.decay))

    trainer.optimizer.register_step_pre_hook(look)
    record = trainer.run()
    shares = [n / total for n in range(total)]
    assert sum(seen, ()) == pytest.approx([v for s in shares for v in (0.25 + s, 0.5 + 0.4 * s)])
    losses = record["metrics"]
    assert losses["loss"] == pytest.approx(
        losses["forward_mse"] + losses["codebook_loss"] + 1.25 * losses["commitment_loss"]
    )
