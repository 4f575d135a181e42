"""The loss against uneven use, from its definition."""

import math

import pytest
import torch

from rotvq.quantization import VectorQuantizer
from rotvq.quantization.entropy import _TEMPERATURE, entropy_loss

K = 6


def by_hand(z, e):
    distances = [[float(((v.double() - c.double()) ** 2).sum()) for c in e] for v in z]
    scale = _TEMPERATURE * sum(map(min, distances)) / len(z)
    share = [0.0] * len(e)
    for row in distances:
        weights = [math.exp(-(d - min(row)) / scale) for d in row]
        for code, weight in enumerate(weights):
            share[code] += weight / sum(weights) / len(z)
    return math.log(len(e)) + sum(p * math.log(p) for p in share if p)


def test_the_loss_matches_its_definition():
    torch.manual_seed(0)
    z, e = torch.randn(40, 3), torch.randn(K, 3)
    assert entropy_loss(z, e).item() == pytest.approx(by_hand(z, e), rel=1e-4)


def test_even_use_costs_nothing_and_one_code_the_most():
    e = 100 * torch.eye(K)
    near = e + 0.01 * torch.randn(K, K)
    assert entropy_loss(near, e).item() == pytest.approx(0, abs=1e-5)
    assert entropy_loss(near[:1].repeat(9, 1), e).item() == pytest.approx(math.log(K), rel=1e-5)


def test_the_gradient_evens_the_use():
    torch.manual_seed(0)
    e = torch.tensor([[-1.0], [1.0]])
    z = torch.cat([-1 + 0.5 * torch.randn(30, 1), 1 + 0.5 * torch.randn(10, 1)]).requires_grad_()
    entropy_loss(z, e).backward()
    # Down the gradient, all go towards the code that has fewer vectors.
    assert (z.grad <= 0).all() and (z.grad < 0).sum() > 5


def test_the_scale_of_the_codebook_does_not_matter():
    torch.manual_seed(0)
    z, e = torch.randn(40, 3), torch.randn(K, 3)
    torch.testing.assert_close(entropy_loss(z, e), entropy_loss(1e-3 * z, 1e-3 * e))


@pytest.mark.parametrize("offset", [100.0, 1000.0])
def test_an_offset_does_not_matter(offset):
    torch.manual_seed(0)
    e = 0.05 * torch.randn(64, 16)
    z = e[torch.randint(8, (200,))] + 0.02 * torch.randn(200, 16)
    torch.testing.assert_close(
        entropy_loss(z + offset, e + offset), entropy_loss(z, e), rtol=1e-2, atol=1e-3
    )


def test_masked_vectors_do_not_count():
    torch.manual_seed(0)
    z, e = torch.randn(40, 3), torch.randn(K, 3)
    kept = torch.arange(40) % 3 > 0
    torch.testing.assert_close(entropy_loss(z, e, kept), entropy_loss(z[kept], e))
    z.requires_grad_()
    none = entropy_loss(z, e, torch.zeros_like(kept))
    none.backward()
    assert none.item() == pytest.approx(math.log(K)) and not z.grad.any()


def test_codes_out_of_reach_give_no_nan():
    e = torch.tensor([[0.0], [1.0], [1e4]])
    z = torch.randn(50, 1, requires_grad=True)
    entropy_loss(z, e).backward()
    assert z.grad.isfinite().all() and z.grad.any()


def test_vectors_on_their_codes_give_no_nan():
    e = torch.randn(K, 3)
    z = e.clone().requires_grad_()
    entropy_loss(z, e).backward()
    assert z.grad.isfinite().all()


def test_a_quantizer_yields_it_in_training_alone_and_only_when_asked():
    torch.manual_seed(0)
    z = torch.randn(40, 3, requires_grad=True)
    quantizer = VectorQuantizer(K, 3, entropy_loss=True)
    e = quantizer.codebook.embeddings.clone()
    out = quantizer(z)
    torch.testing.assert_close(out.entropy_loss, entropy_loss(z, e))
    out.entropy_loss.backward()
    assert z.grad.abs().sum() > 0
    assert quantizer.eval()(z).entropy_loss == 0
    assert VectorQuantizer(K, 3)(z).entropy_loss == 0
