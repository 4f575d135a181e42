"""The search against brute force in float64: every difference is formed, every square is summed."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rotvq import processor
from rotvq.errors import UserError
from rotvq.quantization import search as search_module
from rotvq.quantization import search_bfloat16
from rotvq.quantization.search import nearest

EPS32 = 2.0**-23


@pytest.fixture(params=["float32", "bfloat16", "bfloat16 in parts"], autouse=True)
def path(request, monkeypatch):
    """Every property holds on every path, whatever the machine would choose."""
    monkeypatch.setattr(processor, "has_bf16", lambda: request.param != "float32")
    monkeypatch.setattr(search_bfloat16, "_LEAST_ELEMENTS", 0)
    if request.param == "bfloat16 in parts":
        monkeypatch.setattr(search_module, "CODES", 96)


def squared_distances(z: Tensor, e: Tensor) -> Tensor:
    """The (n, k) table in float64, a code at a time."""
    z, e = z.double(), e.double()
    return torch.stack([(z - code).square().sum(-1) for code in e], dim=1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scale(z: Tensor, e: Tensor) -> Tensor:
    """(|z - mu| + max |e - mu|)^2 in float64: the unit of the guarantee, (n,)."""
    mu = e.double().mean(0)
    return ((z.double() - mu).norm(dim=-1) + (e.double() - mu).norm(dim=-1).max()).square()


def assert_nearest(z: Tensor, e: Tensor, units: float = 8.0) -> None:
    """The guarantee: an excess within `units` eps, and the exact index beyond it."""
    indices = nearest(z, e)
    assert indices.dtype == torch.int64 and indices.shape == (len(z),)
    assert 0 <= int(indices.min()) and int(indices.max()) < len(e)
    table = squared_distances(z, e)
    least, best = table.min(dim=1)
    excess = table.gather(1, indices[:, None]).squeeze(1) - least
    bound = units * EPS32 * scale(z, e)
    assert (excess <= bound).all(), (excess / bound).max()
    if len(e) > 1:
        runner_up = table.topk(2, largest=False).values[:, 1]
        clear = runner_up - least > bound
        assert torch.equal(indices[clear], best[clear])
        assert clear.any()


@pytest.mark.parametrize("n, k, d", [(1, 1, 1), (7, 5, 3), (300, 1024, 256), (1000, 33, 2)])
def test_random_vectors(n, k, d):
    assert_nearest(normal(n, d), normal(k, d, seed=1))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("spread", [1e-5, 1.0])
@pytest.mark.parametrize("d", [4, 256])
def test_offset_and_spread(offset, spread, d):
    if offset and spread < 1e-3:
        spread = 1e-2  # 1e-5 beside 1000 is below float32's resolution
    assert_nearest(offset + spread * normal(400, d), offset + spread * normal(300, d, seed=1))


def test_an_offset_of_1000_costs_no_accuracy():
    # Multiples of 1/8 stay exact at 1000, so the two tables are equal. Distances differ by 1/64 at
    # least, far above the guarantee, or not at all.
    z = (8 * normal(500, 32)).round() / 8
    e = (8 * normal(200, 32, seed=1)).round() / 8
    table = squared_distances(z, e)
    found = table.gather(1, nearest(z + 1000, e + 1000)[:, None]).squeeze(1)
    assert torch.equal(found, table.min(dim=1).values)


@pytest.mark.parametrize("spread", [1e-19, 1e19])
def test_elements_near_the_ends_of_float32(spread):
    assert_nearest(spread * normal(100, 16), spread * normal(50, 16, seed=1))


def test_a_far_vector_still_finds_its_code():
    e = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    z = torch.tensor([[1e6, 0.0], [-1e6, 0.0], [0.0, 1e6], [1e-6, 0.0]])
    assert nearest(z, e).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("k", [6, 1500])
def test_equal_codes_give_the_lowest_index(k):
    e = normal(k // 3, 8).repeat(3, 1)
    z = e[torch.randperm(k)][:200] + 0.01 * normal(min(k, 200), 8, seed=1)
    expected = squared_distances(z, e[: k // 3]).argmin(dim=1)
    assert torch.equal(nearest(z, e), expected)
    assert nearest(normal(20, 8), torch.zeros(k, 8)).tolist() == [0] * 20


def test_every_code_finds_itself():
    e = normal(2000, 64)
    assert torch.equal(nearest(e, e), torch.arange(2000))
    small = 1000 + 1e-2 * normal(500, 64)
    assert torch.equal(nearest(small, small), torch.arange(500))


def test_one_code_and_no_vectors():
    assert nearest(normal(5, 3), normal(1, 3)).tolist() == [0] * 5
    empty = nearest(normal(0, 3), normal(4, 3))
    assert empty.shape == (0,) and empty.dtype == torch.int64


def test_float64_is_searched_in_float64():
    e = torch.tensor([[1.0], [1.0 + 1e-10]], dtype=torch.float64)
    z = torch.tensor([[1.0 + 0.9e-10], [1.0 + 0.1e-10]], dtype=torch.float64)
    assert nearest(z, e).tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_searched_in_float32(dtype):
    z, e = normal(500, 64).to(dtype), normal(300, 64, seed=1)
    assert torch.equal(nearest(z, e), nearest(z.float(), e))
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(nearest(z, e), nearest(z.float(), e))
        inside = nearest(z.float(), e)
    assert torch.equal(inside, nearest(z.float(), e))
    assert torch.equal(inside, squared_distances(z, e).argmin(dim=1))


def test_a_bad_vector_spoils_no_other():
    z, e = normal(50, 8), normal(20, 8, seed=1)
    expected = nearest(z, e)
    bad = z.clone()
    bad[3], bad[17, 2], bad[20, 0] = float("nan"), float("inf"), -float("inf")
    indices = nearest(bad, e)
    assert 0 <= int(indices.min()) and int(indices.max()) < 20
    good = torch.ones(50, dtype=torch.bool)
    good[[3, 17, 20]] = False
    assert torch.equal(indices[good], expected[good])


def test_indices_carry_no_gradient():
    z, e = normal(5, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    indices = nearest(z, e)
    assert not indices.requires_grad and indices.grad_fn is None


class Largest(TorchDispatchMode):
    """Remembers the most elements that any tensor held."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.numel())
        return out


def test_no_matrix_of_all_distances_is_made():
    n, k = 60_000, 1024
    z, e = normal(n, 4), normal(k, 4, seed=1)
    with Largest() as largest:
        indices = nearest(z, e)
    assert largest.elements <= n * k // 4
    some = torch.arange(0, n, 997)
    assert torch.equal(indices[some], squared_distances(z[some], e).argmin(dim=1))


@pytest.mark.parametrize("shape", [(2, 5, 4), (4,), (5, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match="For other layouts, use nearest_codes"):
        nearest(torch.randn(shape), torch.randn(8, 4))
