"""The model's shapes, losses and tokens."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

import rotvq
from rotvq.errors import UserError
from rotvq.model import VQVAE, VQVAEOutput
from rotvq.quantization import GradientLearned, Restart, VectorQuantizer, distances


def small(channels: int = 3, stages: int = 2, dim: int = 8, **options) -> VQVAE:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, dim, channel_dim=1, **options)
    model = VQVAE(channels, width=8, dim=dim, depth=1, stages=stages, quantizer=quantizer)
    with torch.no_grad():  # spread the codes over what the encoder yields, so that many are used
        z = model.encoder(images(8, channels)).movedim(1, -1).flatten(0, -2)
        model.quantizer.codebook.embeddings.copy_(z[torch.randperm(len(z))[:32]])
    return model


def images(b: int = 4, channels: int = 3, h: int = 16, w: int = 16, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(b, channels, h, w, generator=g) - 1


def test_the_papers_defaults_have_the_parameters_counted_by_hand():
    model = VQVAE()
    residual = 2 * (256 * 256 * 3 * 3 + 256)
    encoder = (3 * 128 * 4 * 4 + 128) + (128 * 256 * 4 * 4 + 256) + 2 * residual
    decoder = 2 * residual + (256 * 128 * 4 * 4 + 128) + (128 * 3 * 4 * 4 + 3)
    assert sum(p.numel() for p in model.encoder.parameters()) == encoder
    assert sum(p.numel() for p in model.decoder.parameters()) == decoder
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder == 5_782_019
    assert model.quantizer.codebook.embeddings.shape == (1024, 256)
    assert model.quantizer.estimator is rotvq.ESTIMATORS["rotation"]
    assert model.encode(images(1, h=32, w=32)).shape == (1, 8, 8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (8, 24)])
def test_shapes(channels, stages, size):
    model = small(channels, stages)
    x = images(2, channels, *size)
    out = model(x)
    grid = (2, size[0] // 2**stages, size[1] // 2**stages)
    assert out.reconstruction.shape == x.shape
    assert out.indices.shape == grid and out.indices.dtype == torch.int64
    for loss in (out.reconstruction_loss, out.codebook_loss, out.commitment_loss):
        assert loss.shape == () and loss.dtype == torch.float32
    model.eval()
    indices = model.encode(x)
    assert indices.shape == grid and indices.dtype == torch.int64
    assert model.decode(indices).shape == x.shape


@pytest.mark.parametrize("dim", [4, 12])
def test_codes_may_be_shorter_or_longer_than_the_width(dim):
    model = small(dim=dim).eval()
    x = images()
    out = model(x)
    assert out.reconstruction.shape == x.shape
    assert torch.equal(model.decode(out.indices), out.reconstruction)


@pytest.mark.parametrize(
    "estimator", ["rotation", "straight_through", "rescaling", "rotation_without_rescaling"]
)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_decoding_the_tokens_is_the_forward_pass_bit_for_bit(estimator, autocast):
    model = small(estimator=estimator).eval()
    x = images()
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        out = model(x)
        indices = model.encode(x)
        assert len(indices.unique()) > 4
        assert torch.equal(indices, out.indices)
        assert torch.equal(model.decode(indices), out.reconstruction)


def test_the_released_transform_leaks_past_its_tokens():
    model = small(estimator="reflection").eval()
    with torch.no_grad():
        model.quantizer.codebook.embeddings.mul_(2)  # the norm is what leaks
    out = model(images())
    assert (model.decode(out.indices) - out.reconstruction).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype_encodes_and_decodes(dtype):
    model = small().eval().to(dtype)
    x = images().to(dtype)
    out = model(x)
    assert out.reconstruction.dtype == dtype
    assert torch.equal(model.decode(model.encode(x)), out.reconstruction)


def test_the_losses_are_means_over_elements():
    model = small().eval()
    x = images()
    with torch.no_grad():
        out = model(x)
        z = model.encoder(x).double()
    e = model.quantizer.codebook.embeddings.double()
    gap, n = 0.0, z.numel()
    for b in range(len(x)):
        for i in range(z.shape[2]):
            for j in range(z.shape[3]):
                gap += float((z[b, :, i, j] - e[out.indices[b, i, j]]).square().sum())
    error = float((out.reconstruction.double() - x.double()).square().sum()) / x.numel()
    assert math.isclose(float(out.reconstruction_loss), error, rel_tol=1e-5)
    assert math.isclose(float(out.codebook_loss), gap / n, rel_tol=1e-4, abs_tol=1e-9)
    assert math.isclose(float(out.commitment_loss), gap / n, rel_tol=1e-4, abs_tol=1e-9)


def test_the_losses_do_not_depend_on_the_batch_size():
    model = small().eval()
    x = images()
    once, twice = model(x), model(torch.cat([x, x]))
    for name in ("reconstruction_loss", "codebook_loss", "commitment_loss", "latent_moments"):
        torch.testing.assert_close(getattr(once, name), getattr(twice, name))


def test_beta_multiplies_the_commitment_loss_alone():
    out = small()(images())
    plain, doubled = out.loss(beta=0.25), out.loss(beta=0.5)
    expected = out.reconstruction_loss + out.codebook_loss + 0.25 * out.commitment_loss
    torch.testing.assert_close(plain, expected)
    torch.testing.assert_close(doubled - plain, 0.25 * out.commitment_loss)
    torch.testing.assert_close(out.loss(), plain)


def test_pixels_stay_in_range():
    model = small().eval()
    with torch.no_grad():
        model.quantizer.codebook.embeddings.mul_(1000)
    assert model.decode(torch.arange(32).view(2, 4, 4)).abs().max() <= 1


@pytest.mark.parametrize("estimator", sorted(rotvq.ESTIMATORS))
def test_the_gradient_reaches_every_parameter(estimator):
    model = small(estimator=estimator, update=GradientLearned())
    out = model(images())
    out.reconstruction_loss.backward(retain_graph=True)
    for name, p in model.named_parameters():
        if "codebook" not in name:
            assert p.grad is not None and p.grad.any() and p.grad.isfinite().all(), name
    e = model.quantizer.codebook.embeddings
    assert e.grad is None or not e.grad.any()


def test_training_lowers_the_loss():
    model = small(init="data", restart=Restart())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = images(16, h=1, w=1).expand(-1, -1, 16, 16)  # an image is one color
    losses = []
    for _ in range(40):
        out = model(x)
        optimizer.zero_grad()
        out.loss().backward()
        optimizer.step()
        losses.append(float(out.reconstruction_loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_evaluation_changes_nothing():
    model = small(restart=Restart()).eval()
    before = {k: v.clone() for k, v in [*model.named_parameters(), *model.named_buffers()]}
    model.decode(model.encode(images()))
    model(images())
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.equal(value, before[name]), name


def test_channels_last_images_give_the_same():
    model = small().eval()
    x = images()
    a = model(x)
    model.to(memory_format=torch.channels_last)
    b = model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(a.reconstruction, b.reconstruction)
    assert torch.equal(a.indices, b.indices)


def test_a_saved_model_is_the_model(tmp_path):
    model = small(init="data")
    model(images())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = small(init="data")
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    same = tree_map(torch.equal, model.eval()(images()), loaded.eval()(images()))
    assert all(vars(same).values())


def test_the_output_is_frozen_and_a_pytree_of_tensors():
    out = small()(images())
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'latents'"):
        out.latents = None
    halves = tree_map(lambda t: t / 2, out)
    assert isinstance(halves, VQVAEOutput)
    for name, value in vars(out).items():
        assert torch.equal(getattr(halves, name), value / 2), name


def test_the_output_holds_the_latents_without_their_gradient():
    model = small()
    out = model(images())
    assert torch.equal(out.latents, model.encoder(images())) and not out.latents.requires_grad


def test_distances_between_latents_and_codes_explain_the_indices():
    model = small().eval()
    indices, z_e = model.encode(images(), return_latents=True)
    assert torch.equal(indices, model.encode(images()))
    codes = model.quantizer.codebook.embeddings
    found = distances(z_e, codes, channel_dim=1)
    assert found.shape == (*indices.shape, len(codes))
    assert torch.equal(found.argmin(-1), indices)


def test_given_tokens_are_decoded_and_trained_on():
    model, x = small(update=GradientLearned()), images()
    indices = model.encode(x).roll(1, 0)
    out = model(x, indices)
    assert torch.equal(out.indices, indices)
    assert torch.equal(out.reconstruction, model.decode(indices))
    out.reconstruction_loss.backward()
    used = model.quantizer.codebook.embeddings.grad.abs().sum(1) > 0
    assert used.nonzero().flatten().tolist() == indices.unique().tolist()
    assert next(model.encoder.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [torch.uint8, np.float32])
def test_pixels_of_another_kind_are_refused_with_a_remedy(kind):
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    x = x if kind is torch.uint8 else x.numpy().astype(kind)
    with pytest.raises(UserError, match=r"Use x\.float\(\) / 127\.5 - 1, or rotvq\.encode_images"):
        VQVAE(width=8, dim=8, depth=1).encode(x)


def test_an_error_without_a_search_is_refused():
    def error(y, x):
        return (y - x).abs().sum((1, 2, 3))

    model = VQVAE(width=8, dim=8, depth=1)
    with pytest.raises(UserError, match="effort: expected 1 to 9 with an error or a rate"):
        model.encode(torch.zeros(1, 3, 8, 8), error=error)
