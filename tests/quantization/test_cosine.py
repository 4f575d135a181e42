"""Codes and vectors at unit length: the metric, and quantizers that use it."""

import pickle

import pytest
import torch
import torch.nn.functional as F

from rotvq.errors import UserError
from rotvq.quantization import EMA, GradientLearned, LinearMap, Restart, VectorQuantizer
from rotvq.quantization.metrics import cosine

UPDATES = {"ema": EMA(0.9), "gradient": GradientLearned(0.9), "linear": LinearMap(0.9)}
each_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES.keys())


def layer(update=None, **more):
    torch.manual_seed(0)
    return VectorQuantizer(24, 6, metric="cosine", update=update, **more)


def lengths(quantizer):
    return quantizer.codebook.embeddings.double().norm(dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_vectors_and_their_gradient_equal_those_of_a_normalization(dtype):
    torch.manual_seed(0)
    x, g = (3 * torch.randn(2, 50, 6)).to(dtype)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    found, expected = cosine(ours), F.normalize(theirs, dim=-1)
    found.backward(g.to(found.dtype))
    expected.backward(g.double())
    close = (
        {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    )
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, **close)


@pytest.mark.parametrize("length", [1e-30, 1e-38, 2e-39, 1e-40, 1e-44])
def test_the_gradient_of_the_shortest_vectors_is_finite(length):
    z = torch.full((1, 4), length / 2, requires_grad=True)
    quantizer = VectorQuantizer(8, 4, metric="cosine")
    (quantizer(z).z_q * torch.tensor([1e-3, 0, 0, 0])).sum().backward()
    assert z.grad.isfinite().all()


def test_vectors_of_any_size_have_unit_length_and_zeros_no_gradient():
    x = torch.tensor([[1e30, 1e30], [1e-30, 0.0], [2e38, -2e38], [0.0, 0.0]], requires_grad=True)
    unit = cosine(x)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))
    assert unit[3].tolist() == [1.0, 0.0]
    unit.sum().backward()
    assert x.grad.isfinite().all() and not x.grad[3].any()


@each_update
@pytest.mark.parametrize("restart", [None, Restart(0.1)])
@pytest.mark.parametrize("init", ["uniform", "data"])
def test_codes_keep_unit_length_and_the_nearest_has_the_largest_cosine(update, restart, init):
    restart = None if isinstance(update, LinearMap) else restart
    quantizer = layer(update, init=init, restart=restart, entropy_loss=True)
    parameters = [torch.nn.Parameter(torch.eye(6)), *quantizer.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.05)
    for _ in range(5):
        z = (5 * torch.randn(200, 6)) @ parameters[0]
        if init == "data" and not quantizer.codebook.initialized:
            quantizer.initialize_codebook(z.detach())
        codes = quantizer.codebook.embeddings.detach().clone()
        out = quantizer(z)
        similarity = F.normalize(z, dim=1).double() @ codes.double().T
        best = similarity.gather(1, out.indices[:, None])[:, 0]
        torch.testing.assert_close(best, similarity.amax(1), rtol=0, atol=1e-6)
        assert torch.equal(out.z_q, codes[out.indices])
        error = (F.normalize(z, dim=1) - codes[out.indices]).square().mean()
        torch.testing.assert_close(out.commitment_loss, error)
        torch.testing.assert_close(lengths(quantizer), torch.ones(24).double(), rtol=0, atol=1e-6)
        optimizer.zero_grad()
        (out.loss(0.25, 0.1) + out.z_q.square().mean()).backward()
        optimizer.step()
    torch.testing.assert_close(lengths(quantizer), torch.ones(24).double(), rtol=0, atol=1e-6)
    quantizer.eval()
    out = quantizer(z)
    assert torch.equal(out.z_q, quantizer.lookup(out.indices))
    assert torch.equal(out.indices, quantizer.encode(3 * z))
    assert torch.equal(quantizer.tables[0][out.indices], out.z_q)


def test_the_update_moves_a_code_towards_the_mean_direction():
    quantizer = layer(EMA(0.5))
    codes = F.normalize(torch.randn(24, 6), dim=1)
    quantizer.codebook.set_codes(7 * codes, weight=4.0)
    z = torch.randn(100, 6)
    n = torch.zeros(24, dtype=torch.float64)
    total = torch.zeros(24, 6, dtype=torch.float64)
    indices = quantizer(z).indices
    n.index_add_(0, indices, torch.ones(100, dtype=torch.float64))
    total.index_add_(0, indices, F.normalize(z.double(), dim=1))
    expected = F.normalize(0.5 * 4 * codes.double() + 0.5 * total, dim=1)
    torch.testing.assert_close(quantizer.codebook.embeddings.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(quantizer.codebook.cluster_size.double(), 2 + n / 2)


@each_update
def test_the_gradient_is_that_of_the_normalization_and_the_estimator(update):
    quantizer = layer(update, estimator="straight_through").eval()
    z, g = torch.randn(2, 40, 6)
    z.requires_grad_()
    quantizer(z).z_q.backward(g)
    same = z.detach().clone().requires_grad_()
    F.normalize(same, dim=1).backward(g)
    torch.testing.assert_close(z.grad, same.grad)


@each_update
def test_saved_and_pickled_codes_are_bit_identical(update):
    quantizer = layer(update).eval()
    other = VectorQuantizer(24, 6, metric="cosine", update=update)
    other.load_state_dict(quantizer.state_dict())
    for copy in (other, pickle.loads(pickle.dumps(quantizer))):
        assert torch.equal(copy.codebook.embeddings, quantizer.codebook.embeddings)
        assert copy.codebook.metric == "cosine"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_update
def test_half_precision(dtype, update):
    quantizer = layer(update).to(dtype)
    out = quantizer(torch.randn(50, 6, dtype=dtype, requires_grad=True))
    out.z_q.float().square().sum().backward()
    assert out.z_q.dtype == dtype
    quantizer.eval()
    out = quantizer(torch.randn(50, 6, dtype=dtype))
    assert torch.equal(out.z_q, quantizer.lookup(out.indices).to(dtype))


def test_an_unknown_metric_is_refused():
    with pytest.raises(UserError, match="metric: expected euclidean or cosine; got 'angular'"):
        VectorQuantizer(4, 2, metric="angular")
