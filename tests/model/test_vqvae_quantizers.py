"""Models of every kind of quantizer, and values that make no tokens and no pictures."""

import math

import pytest
import torch

from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluate
from rotvq.model import VQVAE
from rotvq.quantization import (
    EMA,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    LinearMap,
    ResidualQuantizer,
    VectorQuantizer,
)


def small(**options):
    quantizer = VectorQuantizer(32, 8, channel_dim=1, **options)
    return VQVAE(width=8, dim=8, depth=1, quantizer=quantizer)


def images():
    return 2 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) - 1


def test_too_many_stages_are_refused():
    with pytest.raises(UserError, match=r"at most 8; got 16. Each stage halves"):
        VQVAE(width=1, dim=8, stages=16)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("quantizer", [None, FiniteScalarQuantizer([4] * 8, channel_dim=1)])
def test_non_finite_weights_make_no_tokens_and_no_images(quantizer, bad):
    model = VQVAE(width=8, dim=8, depth=1, quantizer=quantizer).eval()
    with torch.no_grad():
        next(model.encoder.parameters())[0] = bad
    with pytest.raises(UserError, match="expected finite latents; got nan"):
        model.encode(images())
    with pytest.raises(UserError, match="expected a finite loss; got nan"):
        evaluate(model, torch.arange(2 * 3 * 256).view(2, 3, 16, 16).byte(), beta=0.25)
    with torch.no_grad():
        next(model.decoder.parameters())[0] = bad
    with pytest.raises(UserError, match="expected finite pixels; got nan"):
        model.decode(torch.zeros(1, 4, 4, dtype=torch.int64))


@pytest.mark.parametrize("update", [EMA(), GradientLearned(), LinearMap()])
def test_non_finite_codes_make_no_tokens(update):
    model = small(update=update).eval()
    with torch.no_grad():
        next(model.quantizer.parameters(), model.quantizer.codebook.embeddings)[3] = math.nan
    with pytest.raises(UserError, match="expected finite codes; got nan"):
        model.encode(images())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_images_make_no_tokens(bad):
    x = images()
    x[0, 0, 0, 0] = bad
    with pytest.raises(UserError, match="expected finite latents"):
        small().encode(x)


@pytest.mark.parametrize(
    ("quantizer", "shape"),
    [
        (ResidualQuantizer([VectorQuantizer(16, 8, channel_dim=1) for _ in range(3)]), (3,)),
        (GroupedQuantizer([VectorQuantizer(16, 4, channel_dim=1) for _ in range(2)]), (2,)),
    ],
)
def test_several_quantizers_in_a_model(quantizer, shape):
    model = VQVAE(width=8, dim=8, depth=1, quantizer=quantizer)
    model(images()).loss().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    model.eval()
    indices = model.encode(images())
    assert indices.shape == (4, 4, 4, *shape)
    assert torch.equal(model.decode(indices), model(images()).reconstruction)
    if isinstance(quantizer, ResidualQuantizer):
        assert model.decode(indices[..., :1]).shape == (4, 3, 16, 16)
    with pytest.raises(UserError, match=r"expected shape \(batch, rows, columns, .\)"):
        model.decode(indices[..., 0])
