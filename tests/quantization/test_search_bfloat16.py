"""The second pass of the bfloat16 search: what it must catch, when it runs, when it gives up."""

import pytest
import torch

from rotvq import processor
from rotvq.quantization import search_bfloat16
from rotvq.quantization.search_bfloat16 import bfloat16_search, is_faster
from rotvq.quantization.search_float32 import float32_search


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def offsets(e: torch.Tensor) -> torch.Tensor:
    return 0.5 * e.square().sum(1)


def searched(z, e):
    return (kind(e, offsets(e))(z) for kind in (bfloat16_search, float32_search))


@pytest.fixture
def no_way_back(monkeypatch):
    def refuse(z):
        raise AssertionError("took the float32 search")

    monkeypatch.setattr(search_bfloat16, "float32_search", lambda e, offset: refuse)


@pytest.mark.parametrize("k", [32, 1000, 4096])
@pytest.mark.parametrize("length", [0.01, 1.0, 100.0])
def test_the_second_pass_alone_finds_the_code(k, length, no_way_back):
    z, e = length * normal(500, 64), normal(k, 64, seed=1)
    index = bfloat16_search(e, offsets(e))(z)
    table = torch.cdist(z.double(), e.double())
    assert torch.equal(index, table.argmin(1))


def test_codes_that_bfloat16_cannot_tell_apart(no_way_back):
    # Half of the codes are as good as each other but for what rounding to 8 bits takes away.
    k = 24
    sign = torch.arange(k) % 2 * 2.0 - 1
    e = torch.cat([sign[:, None], 1e-2 * normal(k, 7, seed=1)], 1)
    z = torch.cat([torch.full((400, 1), 1.003), 1e-2 * normal(400, 7)], 1)
    rounded = (offsets(e) - z @ e.T).bfloat16().argmin(1)
    index = bfloat16_search(e, offsets(e))(z)
    exact = torch.cdist(z.double(), e.double()).argmin(1)
    assert torch.equal(index, exact)
    assert (rounded != exact).any()


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_too_many_candidates_take_the_float32_search(size):
    e = torch.cat([normal(1, 16), normal(1, 16) + size * normal(2000, 16, seed=1)])
    z = normal(100, 16, seed=2)
    index, expected = searched(z, e)
    assert torch.equal(index, expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_vectors_beyond_the_bound_take_the_float32_search(bad):
    e, z = normal(300, 8), normal(40, 8, seed=1)
    z[7, 3] = bad
    index, expected = searched(z[:7], e)
    assert torch.equal(index, expected)
    assert torch.equal(bfloat16_search(e, offsets(e))(z), float32_search(e, offsets(e))(z))


def test_it_is_chosen_where_it_is_faster(monkeypatch):
    small, large = normal(64, 16), normal(8192, 128)
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    assert is_faster(small, large, torch.float32) and not is_faster(small, small, torch.float32)
    assert not is_faster(small, large, torch.float64)
    assert not is_faster(small.to("meta"), large, torch.float32)
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    assert not is_faster(small, large, torch.float32)


def test_after_a_block_with_too_many_candidates_the_rest_takes_the_float32_search(monkeypatch):
    e = torch.cat([1e-6 * normal(2000, 16, seed=1), 10 * normal(24, 16, seed=2)])
    blocks = [normal(50, 16, seed=seed) for seed in (3, 4)]
    expected = [float32_search(e, offsets(e))(block) for block in blocks]
    search = bfloat16_search(e, offsets(e))
    assert torch.equal(search(blocks[0]), expected[0])
    monkeypatch.setattr(torch, "mm", None)
    assert torch.equal(search(blocks[1]), expected[1])
