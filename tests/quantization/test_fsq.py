"""Finite scalar quantization against its definition, channel by channel."""

import itertools
import math

import pytest
import torch

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import FiniteScalarQuantizer

LEVELS = [[8, 5, 5, 5], [4] * 5, [2], [3, 4], [7, 5]]


def axis(count):
    """The values of a channel: from -1 in steps of 1 / (L // 2), and -1 and 1 for two levels."""
    return [n / (count // 2) - 1 for n in range(count)] if count > 2 else [-1.0, 1.0]


def grid(levels):
    """All codes in order."""
    return torch.tensor(list(itertools.product(*map(axis, levels))))


@pytest.mark.parametrize("levels", LEVELS)
def test_the_codebook_is_the_grid_and_every_code_is_reached(levels):
    quantizer = FiniteScalarQuantizer(levels)
    assert len(quantizer.codebook) == math.prod(levels)
    torch.testing.assert_close(quantizer.codebook.embeddings, grid(levels))
    torch.manual_seed(0)
    out = quantizer(torch.randn(600 * math.prod(levels), len(levels)) * 2)
    assert len(out.indices.unique()) == math.prod(levels)


@pytest.mark.parametrize("levels", LEVELS)
def test_values_are_codes_bit_for_bit_and_the_nearest_to_the_bound(levels):
    quantizer, z = FiniteScalarQuantizer(levels), torch.randn(500, len(levels)) * 3
    out = quantizer(z)
    assert torch.equal(out.z_q, quantizer.codebook.embeddings[out.indices])
    assert torch.equal(out.z_q, quantizer.lookup(quantizer.encode(z)))
    for channel, count in enumerate(levels):
        if count == 2:
            assert torch.equal(out.z_q[:, channel] > 0, z[:, channel] >= 0)
            continue
        half = (count - 1) * 1.001 / 2
        off = 0.0 if count % 2 else 0.5
        bound = torch.tanh(z[:, channel].double() + math.atanh(off / half)) * half - off
        steps = out.z_q[:, channel].double() * (count // 2)
        assert (steps - bound).abs().max() < 0.5 + 1e-5


@pytest.mark.parametrize("levels", [[2] * 10, [2, 3], [4, 4], [8, 5, 5, 5]])
def test_normal_vectors_use_every_level_of_every_channel(levels):
    torch.manual_seed(0)
    z = torch.randn(20000, len(levels), requires_grad=True)
    out = FiniteScalarQuantizer(levels)(z)
    out.z_q.sum().backward()
    for channel, count in enumerate(levels):
        _, used = out.z_q[:, channel].unique(return_counts=True)
        assert len(used) == count and used.min() > len(z) / count / 5
        if count == 2:
            assert abs(used[0] / len(z) - 0.5) < 0.02
    slopes = (1 - z.detach().tanh() ** 2) * 1.001
    binary = [channel for channel, count in enumerate(levels) if count == 2]
    torch.testing.assert_close(z.grad[:, binary], slopes[:, binary])


def test_zero_is_in_the_middle_and_the_far_ends_are_the_outer_levels():
    quantizer = FiniteScalarQuantizer([5, 4])
    middle, low, high = quantizer(torch.tensor([[0.0, 0.0], [-50.0, -50.0], [50.0, 50.0]])).z_q
    assert middle.tolist() == [0.0, 0.0]
    assert low.tolist() == [-1.0, -1.0]
    assert high.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("levels", [[1000], [1201, 3], [5000, 2], [2**30]])
def test_many_levels_have_no_index_beyond_the_outermost(levels):
    quantizer = FiniteScalarQuantizer(levels)
    far = torch.full((1, len(levels)), 50.0)
    assert quantizer.encode(-far) == 0
    assert quantizer.encode(far) == math.prod(levels) - 1


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


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_get_a_valid_index(levels, bad):
    quantizer = FiniteScalarQuantizer(levels)
    z = torch.zeros(3, len(levels))
    z[1] = bad
    out = quantizer(z)
    codes = [set(axis.tolist()) for axis in grid(levels).unbind(1)]
    assert torch.equal(out.indices, quantizer.encode(z))
    assert torch.equal(out.z_q, quantizer.lookup(out.indices))
    assert all(value in codes[i] for i, value in enumerate(out.z_q[1].tolist()))
    assert math.isnan(out.commitment_loss) == math.isnan(bad)
    if math.isnan(bad):
        assert out.indices[1] == out.indices[0], "nan counts as the middle"


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_has_the_tokens_of_float32_and_comes_back_whole(levels, dtype):
    quantizer, z = FiniteScalarQuantizer(levels), torch.randn(2000, len(levels)).to(dtype)
    expected = quantizer.encode(z.float())
    low = FiniteScalarQuantizer(levels).to(dtype)
    assert torch.equal(low(z).indices, expected) and torch.equal(low.encode(z), expected)
    assert torch.equal(low.lookup(expected), quantizer.lookup(expected))
    assert torch.equal(low.float().encode(z.float()), expected)


def test_memory_that_was_empty_holds_the_levels_again():
    with torch.device("meta"):
        quantizer = FiniteScalarQuantizer([3, 4])
    quantizer = quantizer.to_empty(device="cpu")
    assert torch.equal(quantizer.codebook.embeddings, grid([3, 4]))


@pytest.mark.parametrize("levels", [[4] * 16, [2] * 36, [7] * 22, [2] * 62])
def test_a_large_grid_needs_no_table(levels):
    quantizer = FiniteScalarQuantizer(levels)
    out = quantizer(torch.randn(50, len(levels)))
    assert torch.equal(quantizer.lookup(out.indices), out.z_q)
    for code, index in zip(out.z_q.tolist(), out.indices.tolist(), strict=True):
        number = 0
        for count, value in zip(levels, code, strict=True):
            place = round((value + 1) * (count - 1) / (axis(count)[-1] + 1))
            assert value == pytest.approx(axis(count)[place])
            number = number * count + place
        assert index == number
    top = torch.tensor([math.prod(levels) - 1])
    assert torch.equal(quantizer(torch.full((1, len(levels)), 50.0)).indices, top)
    for bad in (top + 1, top - top - 2):
        with pytest.raises(UserError, match=f"expected values from 0 to {int(top)}"):
            quantizer.lookup(bad)
    with pytest.raises(UserError, match=r"expected at most 16,777,216 codes to list or count"):
        _ = quantizer.codebook.embeddings


def test_more_codes_than_an_index_holds_are_refused():
    with pytest.raises(UserError, match=r"expected fewer than 2\*\*63 codes"):
        FiniteScalarQuantizer([2] * 63)


@pytest.mark.parametrize("levels", [[], [1, 5], [0], [3.0, 5], torch.tensor([8, 5])])
def test_invalid_levels_are_refused(levels):
    with pytest.raises(UserError, match="expected 2 or more for each channel"):
        FiniteScalarQuantizer(levels)


def test_it_replaces_a_vector_quantizer():
    quantizer = FiniteScalarQuantizer([4, 4, 4], channel_dim=1)
    model = VQVAE(3, 8, 3, 1, 2, quantizer)
    output = model(torch.rand(2, 3, 16, 16) * 2 - 1)
    output.loss().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    model.eval()
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(model.decode(model.encode(x)), model(x).reconstruction)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8])
def test_symmetric_levels_are_evenly_spaced_and_the_nearest_is_chosen(levels):
    quantizer = FiniteScalarQuantizer([levels], symmetric=True)
    places = torch.linspace(-1, 1, levels)
    torch.testing.assert_close(quantizer.codebook.embeddings[:, 0], places)
    z = torch.linspace(-3, 3, 1001)[:, None]
    nearest = (torch.tanh(z) - places).abs().argmin(1)
    sure = (torch.tanh(z) * (levels - 1) / 2 - (levels - 1) / 2).frac().abs().sub(0.5).abs() > 1e-4
    assert torch.equal(quantizer.encode(z)[sure[:, 0]], nearest[sure[:, 0]])
    assert quantizer.encode(z).unique().numel() == levels
