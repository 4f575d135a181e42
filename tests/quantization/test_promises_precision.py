"""Every quantizer has the tokens of float32 in half precision and under autocast."""

import copy

import pytest
import torch
from every_quantizer import HALF, OF_EACH_KIND, each, made, vectors


@each(OF_EACH_KIND)
@pytest.mark.parametrize("dtype", HALF)
def test_a_model_in_half_precision_has_the_tokens_of_float32(make, dtype):
    quantizer = made(make)
    z = vectors(quantizer, 200).to(dtype)
    indices, codes = quantizer.encode(z.float()), quantizer.lookup(quantizer.encode(z.float()))
    low = copy.deepcopy(quantizer).to(dtype).eval()
    assert torch.equal(low.encode(z), indices) and torch.equal(low(z).indices, indices)
    assert torch.equal(low.lookup(indices), codes)
    back = low.float()
    assert torch.equal(back.lookup(back.encode(z.float())), codes), "nothing was lost for good"
    out = made(make).to(dtype)(z.requires_grad_())
    out.z_q.float().square().sum().backward()
    assert z.grad.dtype == dtype and z.grad.isfinite().all()


@each(OF_EACH_KIND)
@pytest.mark.parametrize("dtype", HALF)
def test_indices_under_autocast_are_those_of_float32(make, dtype):
    quantizer, z = made(make), vectors(made(make), 200)
    expected = copy.deepcopy(quantizer)(z)
    with torch.autocast("cpu", dtype):
        out = quantizer(z)
        found = quantizer.eval().encode(z)
    assert torch.equal(out.indices, expected.indices)
    assert out.commitment_loss.dtype == torch.float32
    torch.testing.assert_close(out.commitment_loss, expected.commitment_loss)
    assert torch.equal(found, quantizer.encode(z))
