"""The bfloat16 product's second look: what it must catch, when it is taken, when it gives up."""

import pytest
import torch

from rotvq import processor
from rotvq.quantization import search_bf16
from rotvq.quantization.scores import plain
from rotvq.quantization.search_bf16 import pays, screened


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def offsets(e: torch.Tensor) -> torch.Tensor:
    return 0.5 * e.square().sum(1)


def searched(z, e):
    (least, index), (expected_least, expected) = (
        kind(e, offsets(e))(z) for kind in (screened, plain)
    )
    torch.testing.assert_close(least, expected_least, rtol=1e-5, atol=1e-5 * float(z.norm()))
    return index, expected


@pytest.fixture
def no_way_back(monkeypatch):
    def refuse(z):
        raise AssertionError("took the plain search")

    monkeypatch.setattr(search_bf16, "plain", lambda e, offset: refuse)


@pytest.mark.parametrize("k", [32, 1000, 4096])
@pytest.mark.parametrize("length", [0.01, 1.0, 100.0])
def test_the_second_look_alone_finds_the_code(k, length, no_way_back):
    z, e = length * normal(500, 64), normal(k, 64, seed=1)
    _, index = screened(e, offsets(e))(z)
    table = torch.cdist(z.double(), e.double())
    assert torch.equal(index, table.argmin(1))


def test_codes_that_bfloat16_cannot_tell_apart(no_way_back):
    # Half of the codes are as good as each other but for what rounding to 8 bits takes away.
    k = 24
    sign = torch.arange(k) % 2 * 2.0 - 1
    e = torch.cat([sign[:, None], 1e-2 * normal(k, 7, seed=1)], 1)
    z = torch.cat([torch.full((400, 1), 1.003), 1e-2 * normal(400, 7)], 1)
    rounded = (offsets(e) - z @ e.T).bfloat16().argmin(1)
    _, index = screened(e, offsets(e))(z)
    exact = torch.cdist(z.double(), e.double()).argmin(1)
    assert torch.equal(index, exact)
    assert (rounded != exact).any()


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_too_many_candidates_take_the_plain_search(size):
    e = torch.cat([normal(1, 16), normal(1, 16) + size * normal(2000, 16, seed=1)])
    z = normal(100, 16, seed=2)
    index, expected = searched(z, e)
    assert torch.equal(index, expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_vectors_beyond_the_bound_take_the_plain_search(bad):
    e, z = normal(300, 8), normal(40, 8, seed=1)
    z[7, 3] = bad
    index, expected = searched(z[:7], e)
    assert torch.equal(index, expected)
    assert torch.equal(screened(e, offsets(e))(z)[1], plain(e, offsets(e))(z)[1])


def test_it_is_chosen_where_it_pays(monkeypatch):
    small, large = normal(64, 16), normal(8192, 128)
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    assert pays(small, large) and not pays(small, small)
    assert not pays(small.double(), large.double())
    assert not pays(small.to("meta"), large)
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    assert not pays(small, large)
