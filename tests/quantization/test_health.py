"""Health and age of codes against counting by hand."""

import math

import pytest
import torch

from rotvq.quantization import (
    EMA,
    Codebook,
    FiniteScalarQuantizer,
    Restart,
    VectorQuantizer,
    health,
)


def step(codebook, *chosen):
    indices = torch.tensor(chosen)
    codebook.accumulate(torch.randn(len(chosen), 2), indices, torch.ones(len(chosen)).bool())
    codebook.step()


def test_idle_counts_steps_since_the_last_choice():
    codebook = Codebook(3, 2)
    step(codebook, 0, 0, 1)
    step(codebook, 0)
    step(codebook, 0, 1)
    step(codebook, 1)
    assert codebook.idle.tolist() == [1, 0, 4]


def test_a_restarted_code_is_young_again():
    codebook = Codebook(3, 2, EMA(0.0), restart=Restart(0.1))
    step(codebook, 0, 0, 1)
    assert codebook.idle.tolist() == [0, 0, 0], "code 2 was dead at once, and restarted"


def test_health_is_that_of_the_statistics():
    codebook = Codebook(4, 2)
    codebook.cluster_size.copy_(torch.tensor([4.0, 2.0, 2.0, 0.0]))
    codebook.idle.copy_(torch.tensor([0, 3, 99, 400]))
    before = {name: t.clone() for name, t in codebook.state_dict().items()}
    found = health(codebook)
    assert (found.dead, found.oldest) == (1, 400)
    assert found.perplexity == pytest.approx(2**1.5)
    assert found.spread[::3] == pytest.approx((0.0, 1.0, 2.0))
    assert all(torch.equal(t, before[name]) for name, t in codebook.state_dict().items())


@pytest.mark.parametrize("restart", [None, Restart(), Restart(0.2)])
def test_dead_codes_are_those_that_a_restart_moves(restart):
    torch.manual_seed(0)
    codebook = Codebook(40, 2, EMA(0.9), restart=restart)
    codebook.cluster_size.copy_(torch.arange(40.0))
    codebook.embed_sum.copy_(codebook.cluster_size.unsqueeze(1) * codebook.embeddings)
    found = health(codebook).dead
    assert found == {None: 1, Restart(): 1, Restart(0.2): 4}[restart]
    if restart:
        before = codebook.embeddings.clone()
        codebook._n.copy_(codebook.cluster_size)
        codebook._s.copy_(codebook.embed_sum)
        codebook._candidates.copy_(9 + torch.rand(40, 2))
        codebook._priority.fill_(0.0)
        codebook.step()
        assert (codebook.embeddings - before).norm(dim=1).gt(1).sum() == found


def test_an_unused_codebook_is_reported_without_nan():
    found = health(Codebook(3, 2))
    assert found == (0, 0, pytest.approx(1.0), (0.0,) * 7)


def test_a_grid_has_no_dead_codes_and_no_counts():
    found = health(FiniteScalarQuantizer([4] * 16).codebook)
    assert (found.dead, found.oldest) == (0, 0)
    assert all(math.isnan(value) for value in (found.perplexity, *found.spread))
    assert len(found.spread) == len(health(Codebook(3, 2)).spread)


def test_a_state_of_before_ages_were_kept_is_loaded():
    quantizer = VectorQuantizer(4, 2)
    state = quantizer.state_dict()
    del state["codebook.idle"]
    quantizer.load_state_dict(state)
    assert quantizer.codebook.idle.tolist() == [0] * 4
