"""The kernels against plain PyTorch: on a GPU where there is one, else in Triton's interpreter."""

from importlib import import_module

import pytest
import torch
from torch import Tensor

from rotvq.model import VQVAE
from rotvq.quantization import (
    EMA,
    Restart,
    VectorQuantizer,
    backend,
    codebook,
    estimators,
    search,
    statistics,
    updates,
)
from rotvq.quantization.estimators import ANTIPARALLEL, ESTIMATORS, LAMBDA_MAX
from rotvq.quantization.search_float32 import float32_search

WITH_KERNELS = (codebook, estimators, search, statistics, updates)
HERE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton", reason="Triton is not installed")
kernels = pytest.importorskip("rotvq.quantization.kernels")
nearest = import_module("rotvq.quantization.kernels.nearest")
# The interpreter computes with numpy, which warns of what a GPU takes in silence.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(HERE)


def offsets(e: Tensor) -> Tensor:
    return 0.5 * e.square().sum(1)


@pytest.fixture
def with_kernels(monkeypatch):
    """Every tensor is taken to lie where the kernels are."""
    for module in WITH_KERNELS:
        monkeypatch.setattr(module, "kernels_for", lambda t: kernels)


@pytest.mark.parametrize("n, k, d", [(1, 1, 1), (7, 5, 3), (130, 300, 40), (200, 128, 256)])
@pytest.mark.parametrize("programs", [1, 3, 132])
def test_search(n, k, d, programs, monkeypatch):
    monkeypatch.setattr(nearest, "PROGRAMS", programs)
    z, e = normal(n, d), normal(k, d, seed=1)
    assert torch.equal(kernels.search(z, e, offsets(e)), float32_search(e, offsets(e))(z))


def test_search_takes_the_lowest_of_equal_codes():
    # Small integers, whose products are exact however a library groups the sums.
    e = (4 * normal(100, 8)).round().repeat(3, 1)
    z = e[:50]
    assert kernels.search(z, e, offsets(e)).tolist() == list(range(50))


def test_search_takes_the_lowest_of_equal_scores_in_all_parts():
    offset = torch.zeros(400, device=HERE)
    offset[300:] = -offset[300:]  # -0 is not less than 0
    assert (
        kernels.search(normal(3, 2), torch.zeros(400, 2, device=HERE), offset).tolist() == [0] * 3
    )
    offset[140:] = -1.0
    assert (
        kernels.search(normal(3, 2), torch.zeros(400, 2, device=HERE), offset).tolist() == [140] * 3
    )


def test_search_of_bad_vectors_is_a_valid_index():
    z, e = normal(5, 4), normal(9, 4, seed=1)
    expected = kernels.search(z, e, offsets(e))
    z[1], z[2, 0], z[3, 1] = float("nan"), float("inf"), -float("inf")
    found = kernels.search(z, e, offsets(e))
    assert 0 <= int(found.min()) and int(found.max()) < 9
    assert torch.equal(found[[0, 4]], expected[[0, 4]])


def leave_out(patch: pytest.MonkeyPatch) -> None:
    """Compute without kernels, on a GPU too: they are compared with this."""
    for module in WITH_KERNELS:
        patch.setattr(module, "kernels_for", lambda t: None)


@pytest.fixture
def without_kernels(monkeypatch):
    leave_out(monkeypatch)


def special(z: Tensor, q: Tensor, g: Tensor) -> None:
    """Rows that have rules of their own."""
    z[0] = 0.0
    q[1] = 0.0
    z[2], q[2] = 0.0, 0.0
    z[3] = -2 * q[3]
    z[4] = -q[4] * (1 + 1e-6)
    z[5] *= 1e-20
    z[6], q[6] = 1e30 * z[6], 1e30 * q[6]
    g[7, 0], g[8, 0] = float("inf"), float("nan")


@pytest.mark.parametrize(
    "name, lambda_max", [("rotation", LAMBDA_MAX), ("rotation_without_rescaling", 0.0)]
)
@pytest.mark.parametrize("d", [1, 7, 64, 300])
@pytest.mark.usefixtures("without_kernels")
def test_rotate(name, lambda_max, d):
    z, q, g = (normal(40, d, seed=s) for s in range(3))
    special(z, q, g)
    leaf = z.clone().requires_grad_()
    ESTIMATORS[name](leaf, q).backward(g)
    torch.testing.assert_close(
        kernels.rotate(z, q, g, ANTIPARALLEL, lambda_max),
        leaf.grad,
        rtol=1e-4,
        atol=1e-5,
        equal_nan=True,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("without_kernels")
def test_rotate_in_half_precision_reads_the_code_in_float32(dtype):
    z, q, g = normal(40, 16).to(dtype), normal(40, 16, seed=1), normal(40, 16, seed=2).to(dtype)
    leaf = z.clone().requires_grad_()
    ESTIMATORS["rotation"](leaf, q).backward(g)
    found = kernels.rotate(z, q, g, ANTIPARALLEL, LAMBDA_MAX)
    assert found.dtype == dtype
    torch.testing.assert_close(found, leaf.grad)


@pytest.mark.parametrize("n, k, d", [(1, 1, 1), (500, 7, 3), (300, 40, 200)])
def test_add_up(n, k, d):
    z = normal(n, d)
    indices = torch.randint(0, k + 1, (n,), device=HERE)  # k: left out
    z[indices == k] = float("nan")
    number, total = kernels.add_up(z, indices, k)
    kept = indices < k
    expected = torch.zeros(k, d, dtype=torch.float64, device=HERE)
    expected.index_add_(0, indices[kept], z[kept].double())
    assert torch.equal(number, torch.bincount(indices[kept], minlength=k).double())
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(total, kernels.add_up(z, indices, k)[1])


@pytest.mark.parametrize("k, d", [(1, 1), (7, 300), (100, 16)])
@pytest.mark.parametrize("size", [1.0, 1e30, 0.0])
def test_centered(k, d, size):
    e = size * normal(k, d)
    center, reach = e.mean(0), e.abs().max()
    found, offset = kernels.centered(e, center, reach)
    expected = (e - center) / reach.clamp_min(torch.finfo(e.dtype).tiny)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(offset, reach * 0.5 * expected.square().sum(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n, d", [(1, 1), (50, 7), (300, 300)])
def test_usable(n, d, dtype):
    z = normal(n, d).to(dtype)
    for row, value in enumerate([torch.nan, torch.inf, -torch.inf, -1e30, 1e28]):
        if row < n:
            z[row, d // 2] = value
    valid = torch.arange(n, device=HERE) % 6 != 5
    found, kept = kernels.usable(z, valid, 1e29)
    expected = valid & (torch.arange(n, device=HERE) >= 4)
    assert torch.equal(kept, expected)
    assert found.dtype == torch.float32
    assert torch.equal(found, z.float().where(expected.unsqueeze(1), 0.0))


@pytest.mark.parametrize("k, d", [(1, 1), (40, 7), (200, 300)])
@pytest.mark.parametrize("codes", ["as averages", "at the start", "written"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_average(k, d, codes, rate, request):
    e, N, m = normal(k, d), normal(k, seed=1).abs(), normal(k, d, seed=2)
    n, s = normal(k, seed=3).abs().round(), normal(k, d, seed=4)
    rate = torch.tensor(rate, device=HERE)
    if codes == "as averages":
        N[: k // 2] = 1e-30  # never used
        e[k // 4 :] = (m / N.unsqueeze(1))[k // 4 :]
    else:
        N.zero_(), m.zero_()
        e /= e.abs().max() * (k if codes == "at the start" else 1)
    with pytest.MonkeyPatch.context() as patch:
        leave_out(patch)
        expected = EMA().step(e, N, m, n, s, rate)
    request.getfixturevalue("with_kernels")
    for found, value in zip(EMA().step(e, N, m, n, s, rate), expected, strict=True):
        torch.testing.assert_close(found, value)


def test_an_average_stays_where_it_is_without_vectors():
    e, N, m, n, s = normal(30, 8), normal(30, seed=1).abs() + 1, normal(30, 8), *2 * [None]
    n, s = torch.zeros_like(N), torch.zeros_like(m)
    rate = torch.tensor(0.01, device=HERE)
    first = kernels.average(e, N, N.unsqueeze(1) * e, n, s, rate, 1e-20, 0.0)
    state = first
    for _ in range(20):
        state = kernels.average(*state, n, s, rate, 1e-20, 0.0)
    torch.testing.assert_close(state[0], first[0], rtol=1e-5, atol=0)


def steps(estimator: str, **layer) -> list[Tensor]:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(
        32, 16, estimator=estimator, update=EMA(0.5), restart=Restart(0.1), **layer
    ).to(HERE)
    found = []
    for number in range(3):
        z = normal(2, 50, 16, seed=number).requires_grad_()
        out = quantizer(z)
        torch.autograd.backward([out.z_q, out.commitment_loss], [normal(2, 50, 16, seed=9), None])
        found += [out.z_q.detach(), out.indices, z.grad]
    return [*found, *(t.clone() for t in quantizer.state_dict().values())]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("init", ["uniform", "data"])
def test_training_steps_are_the_same(estimator, init, request):
    with pytest.MonkeyPatch.context() as patch:
        leave_out(patch)
        without = steps(estimator, init=init)
    request.getfixturevalue("with_kernels")
    for found, expected in zip(steps(estimator, init=init), without, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_any_memory_layout_gives_the_same():
    """Rows of every other column, transposed tensors, and an expanded mask."""
    e, z, g = (normal(2 * n, 12, seed=n)[::2] for n in (9, 30, 30))
    N, n, rate = e.square().sum(1), e.square().sum(1).round(), torch.tensor(0.3, device=HERE)
    indices = torch.arange(30, device=HERE) % 9
    calls = (
        (kernels.search, (z, e, offsets(e))),
        (kernels.centered, (e, e[0], rate)),
        (kernels.rotate, (z, e[indices], g, ANTIPARALLEL, LAMBDA_MAX)),
        (kernels.add_up, (z, indices, 9)),
        (kernels.usable, (z, torch.ones(1, dtype=torch.bool, device=HERE).expand(30), 1e29)),
        (kernels.average, (e, N, e.clone(), n, z[:9], rate, 1e-20, 0.0)),
    )
    for operator, arguments in calls:
        tensors = [isinstance(each, Tensor) and each.ndim == 2 for each in arguments]
        strided = [
            each.T.contiguous().T if is_matrix else each
            for each, is_matrix in zip(arguments, tensors, strict=True)
        ]
        dense = [each.contiguous() if isinstance(each, Tensor) else each for each in arguments]
        found, expected = operator(*strided), operator(*dense)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=str(operator))


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("network", ["paper", "patches", "attention"])
def test_an_image_alone_has_the_tokens_that_it_has_in_a_batch(network):
    """Alone, its latents reach the search as a transposed view."""
    model = VQVAE(width=8, dim=8, network=network).eval().to(HERE)
    x = normal(2, 3, 16, 16).clamp(-1, 1)
    together = model.encode(x)
    assert torch.equal(torch.cat([model.encode(one[None]) for one in x]), together)
    assert len(together.unique()) > 1


def test_operators_keep_torchs_rules():
    z, e = normal(20, 8), normal(12, 8, seed=1)
    indices = kernels.search(z, e, offsets(e))
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(kernels.search, (z, e, offsets(e)), test_utils=checks)
    arguments = (z, e[indices], z, ANTIPARALLEL, LAMBDA_MAX)
    torch.library.opcheck(kernels.rotate, arguments, test_utils=checks)
    torch.library.opcheck(kernels.add_up, (z, indices, 12), test_utils=checks)
    n, rate = offsets(e), torch.tensor(0.1, device=HERE)
    torch.library.opcheck(kernels.centered, (e, e.mean(0), rate), test_utils=checks)
    torch.library.opcheck(kernels.usable, (z, indices > 3, 1e29), test_utils=checks)
    torch.library.opcheck(kernels.average, (e, n, e, n, e, rate, 1e-20, 0.1), test_utils=checks)


def test_kernels_are_only_for_gpus(monkeypatch):
    t = torch.zeros(1)
    assert backend.kernels_for(t) is None
    on_gpu = t.as_subclass(type("OnGpu", (Tensor,), {"device": torch.device("cuda")}))
    assert backend.kernels_for(on_gpu) is kernels
    assert backend.kernels_for(on_gpu.double()) is None
    monkeypatch.setattr(backend, "_kernels", lambda: None)
    assert backend.kernels_for(on_gpu) is None
