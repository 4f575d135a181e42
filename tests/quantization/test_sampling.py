"""Codes drawn at random in training."""

import pytest
import torch

from rotvq.errors import UserError
from rotvq.quantization import VectorQuantizer, nearest
from rotvq.quantization.sampling import sampled


def test_codes_are_drawn_with_their_probabilities():
    torch.manual_seed(0)
    z, e = torch.randn(3), torch.randn(5, 3)
    expected = torch.softmax(-(z - e).square().sum(1).double() / 0.7, 0)
    found = sampled(0.7)(z.expand(200_000, 3), e).bincount(minlength=5) / 200_000
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.005)


def test_temperature_zero_is_the_nearest_code_and_a_low_one_almost():
    torch.manual_seed(0)
    z, e = torch.randn(50, 3), torch.randn(20, 3)
    assert sampled(0) is nearest
    assert torch.equal(sampled(1e-6)(z, e), nearest(z, e))


def test_only_training_draws():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 4, search=sampled(100.0))
    z = torch.randn(200, 4)
    best = quantizer.encode(z)
    assert (quantizer(z).indices != best).float().mean() > 0.5
    assert torch.equal(quantizer.eval()(z).indices, quantizer.encode(z))


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(UserError, match="temperature: expected 0 or more; got"):
        sampled(temperature)
