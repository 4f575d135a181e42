"""Residual quantizers against a loop over single ones."""

import copy

import pytest
import torch
from several_quantizers import layer, normal, residual

from rotvq.errors import UserError
from rotvq.quantization import (
    FiniteScalarQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
    nearest,
)
from rotvq.quantization.estimators import ESTIMATORS


def test_each_level_codes_the_residual():
    quantizer, z = residual().eval(), normal(50, 8)
    out = quantizer(z)
    rest, total, losses = z.clone(), torch.zeros_like(z), []
    for number, level in enumerate(quantizer.quantizers):
        index = nearest(rest, level.codebook.embeddings)
        assert torch.equal(out.indices[:, number], index)
        losses.append((rest - level.codebook.embeddings[index]).square().mean())
        total += level.codebook.embeddings[index]
        rest -= level.codebook.embeddings[index]
    torch.testing.assert_close(out.z_q, total)
    torch.testing.assert_close(out.commitment_loss, torch.stack(losses).mean())
    assert (z - out.z_q).square().mean() < losses[0]


@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize("estimator", ["straight_through", "rotation"])
def test_the_gradient_is_that_of_one_quantizer(levels, estimator):
    quantizer = residual(levels, estimator=estimator).eval()
    z, g = normal(30, 8).requires_grad_(), normal(30, 8, seed=9)
    out = quantizer(z)
    (found,) = torch.autograd.grad(out.z_q, z, g)
    (expected,) = torch.autograd.grad(ESTIMATORS[estimator](z, out.z_q.detach()), z, g)
    torch.testing.assert_close(found, expected)
    if estimator == "straight_through":
        assert torch.equal(found, g)


@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_the_first_levels_decode_to_what_they_alone_would_give(channel_dim):
    quantizer = residual(4, channel_dim=channel_dim).eval()
    z = normal(2, 8, 8)
    indices = quantizer.encode(z)
    for levels in range(1, 5):
        fewer = ResidualQuantizer(list(quantizer.quantizers)[:levels])
        found = quantizer.lookup(indices[..., :levels])
        assert torch.equal(found, fewer(z).z_q)


def test_data_initialization_places_each_level_over_its_residual():
    torch.manual_seed(0)
    quantizer, alone = residual(2), copy.deepcopy(residual(2))
    z = 5 + normal(200, 8, seed=3)
    torch.manual_seed(1)
    quantizer.initialize_codebook(z)
    torch.manual_seed(1)
    first, second = alone.quantizers
    first.initialize_codebook(z)
    second.initialize_codebook(z - first.lookup(first.encode(z)))
    for found, expected in zip(quantizer.codebooks, alone.codebooks, strict=True):
        assert torch.equal(found.embeddings, expected.embeddings)


def test_quantizers_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="one or more; got none"):
        ResidualQuantizer([])
    with pytest.raises(UserError, match=r"same channel_dim in all of them; got \[-1, 1\]"):
        ResidualQuantizer([layer(), layer(channel_dim=1)])
    with pytest.raises(UserError, match=r"expected the same dim in all of them; got \[8, 3\]"):
        ResidualQuantizer([layer(), layer(d=3)])
    fsq = FiniteScalarQuantizer([8, 5, 5])
    with pytest.raises(UserError, match="got a FiniteScalarQuantizer"):
        ResidualQuantizer([fsq, fsq])
    with pytest.raises(UserError, match="got a ResidualQuantizer"):
        ResidualQuantizer([residual()])
    with pytest.raises(UserError, match="got the reflection"):
        residual(estimator="reflection")


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="expected 8 channels"):
        residual()(normal(4, 9))
    for method in (residual(), residual().encode, residual().initialize_codebook):
        with pytest.raises(UserError, match=r"z: expected a floating dtype; got torch\.int64"):
            method(torch.zeros(4, 8, dtype=torch.int64))
    with pytest.raises(UserError, match="mask: expected bool"):
        residual()(normal(4, 8), torch.ones(4))
    with pytest.raises(UserError, match="expected 1 to 3 in dimension -1, one for each quantizer"):
        residual().lookup(torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(UserError, match="single codebook; got a ResidualQuantizer of 3 quantizers"):
        _ = residual().codebook


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_codes_have_the_dtype_of_z_with_any_estimator(dtype):
    def own(z, q):
        return z + (q - z).detach()

    quantizer = ResidualQuantizer([VectorQuantizer(8, 4, estimator=own) for _ in range(2)])
    z = torch.randn(3, 5, 4, dtype=dtype)
    assert quantizer(z).z_q.dtype == dtype
