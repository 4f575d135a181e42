"""Finite scalar quantization against its definition, channel by channel."""

import itertools
import math

import pytest
import torch

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import FiniteScalarQuantizer

LEVELS = [[8, 5, 5, 5], [4] * 5, [2], [3, 4], [7, 5]]


def grid(levels):
    """All codes in order, each channel from -1 in steps of 1 / (L // 2)."""
    axes = [[(n - count // 2) / (count // 2) for n in range(count)] for count in levels]
    return torch.tensor(list(itertools.product(*axes)))


@pytest.mark.parametrize("levels", LEVELS)
def test_the_codebook_is_the_grid_and_every_code_is_reached(levels):
    quantizer = FiniteScalarQuantizer(levels)
    assert len(quantizer.codebook) == math.prod(levels)
    torch.testing.assert_close(quantizer.codebook.e, grid(levels))
    torch.manual_seed(0)
    out = quantizer(torch.randn(600 * math.prod(levels), len(levels)) * 2)
    assert len(out.indices.unique()) == math.prod(levels)


@pytest.mark.parametrize("levels", LEVELS)
def test_values_are_codes_bit_for_bit_and_the_nearest_to_the_bound(levels):
    quantizer, z = FiniteScalarQuantizer(levels), torch.randn(500, len(levels)) * 3
    out = quantizer(z)
    assert torch.equal(out.z_q, quantizer.codebook.e[out.indices])
    assert torch.equal(out.z_q, quantizer.lookup(quantizer.encode(z)))
    for channel, count in enumerate(levels):
        half = (count - 1) * 1.001 / 2
        off = 0.0 if count % 2 else 0.5
        bound = torch.tanh(z[:, channel].double() + math.atanh(off / half)) * half - off
        steps = out.z_q[:, channel].double() * (count // 2)
        assert (steps - bound).abs().max() < 0.5 + 1e-5


def test_zero_is_in_the_middle_and_the_far_ends_are_the_outer_levels():
    quantizer = FiniteScalarQuantizer([5, 4])
    middle, low, high = quantizer(torch.tensor([[0.0, 0.0], [-50.0, -50.0], [50.0, 50.0]])).z_q
    assert middle.tolist() == [0.0, 0.0]
    assert low.tolist() == [-1.0, -1.0]
    assert high.tolist() == [1.0, 0.5]


def test_the_gradient_is_that_of_the_bound():
    quantizer = FiniteScalarQuantizer([5, 3])
    z = torch.tensor([[0.3, -0.7]], requires_grad=True)
    quantizer(z).z_q.backward(torch.tensor([[1.0, 2.0]]))
    slopes = (1 - z.detach().tanh() ** 2) * torch.tensor([2 * 1.001 / 2, 1.001])
    torch.testing.assert_close(z.grad, slopes * torch.tensor([[1.0, 2.0]]))


def test_losses_are_zero_and_masked_tokens_are_left_out():
    quantizer = FiniteScalarQuantizer([3, 3], channel_dim=1)
    z = torch.randn(2, 2, 4)
    z[0, :, 1] = math.nan
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[0, 1] = False
    out = quantizer(z, mask)
    assert out.z_q.shape == z.shape and out.indices.shape == (2, 4)
    assert out.indices[0, 1] == -1 and not out.z_q[0, :, 1].any()
    assert out.z_q.isfinite().all()
    assert (out.commitment_loss, out.codebook_loss) == (0, 0)
    assert torch.equal(quantizer.encode(z, mask), out.indices)


def test_half_precision_has_the_indices_of_float32():
    quantizer, z = FiniteScalarQuantizer([8, 5]), torch.randn(300, 2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(z)
    assert torch.equal(out.indices, quantizer(z.float()).indices)
    assert out.z_q.dtype == torch.bfloat16


@pytest.mark.parametrize("levels", [[], [1, 5], [0]])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(UserError, match="expected 2 or more for each channel"):
        FiniteScalarQuantizer(levels)


def test_it_stands_in_the_place_of_a_vector_quantizer():
    quantizer = FiniteScalarQuantizer([4, 4, 4], channel_dim=1)
    model = VQVAE(3, 8, 3, 1, 2, quantizer)
    output = model(torch.rand(2, 3, 16, 16) * 2 - 1)
    output.loss().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    model.eval()
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(model.decode(model.encode(x)), model(x).reconstruction)
