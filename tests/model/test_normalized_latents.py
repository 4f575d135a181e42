"""Latents scaled to one length."""

import pytest
import torch

from rotvq.model import VQVAE
from rotvq.model.blocks import NormalizedLatents


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_vector_has_the_same_length_and_its_own_direction(dtype):
    torch.manual_seed(0)
    z = (100 * torch.randn(2, 9, 4, 5)).to(dtype)
    out = NormalizedLatents()(z)
    assert out.dtype == dtype
    length = out.float().square().sum(1).sqrt()
    torch.testing.assert_close(length, torch.full_like(length, 3.0), rtol=1e-2, atol=0)
    assert torch.cosine_similarity(out.float(), z.float()).min() > 0.999


def test_zero_vectors_stay_zero_and_have_a_finite_gradient():
    z = torch.zeros(1, 4, 2, 2, requires_grad=True)
    out = NormalizedLatents()(z)
    out.sum().backward()
    assert not out.any() and z.grad.isfinite().all()


@pytest.mark.parametrize("network", ["paper", "patches"])
def test_a_model_with_normalized_latents_has_the_same_parameter_names(network):
    model = VQVAE(width=8, dim=16, depth=1, network=network, normalized_latents=True).eval()
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    z = model.encoder(x)
    torch.testing.assert_close(z.square().mean(1), torch.ones(2, 2, 2), rtol=1e-3, atol=0)
    assert torch.equal(model.decode(model.encode(x)), model(x).reconstruction)
    plain = VQVAE(width=8, dim=16, depth=1, network=network)
    assert plain.state_dict().keys() == model.state_dict().keys()
