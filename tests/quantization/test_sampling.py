"""Codes drawn at random in training."""

import pickle

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


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_an_offset_changes_no_probability(offset):
    torch.manual_seed(0)
    e = 0.05 * torch.randn(64, 64)
    near = (e + offset) + 0.001
    assert torch.equal(sampled(1e-3)(near, e + offset), torch.arange(64))


def test_a_search_can_be_pickled():
    search = pickle.loads(pickle.dumps(sampled(0.5)))
    quantizer = pickle.loads(pickle.dumps(VectorQuantizer(16, 4, search=search)))
    assert quantizer(torch.randn(8, 4)).indices.shape == (8,)


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
