"""Multi-scale quantizers against VAR's algorithm with torch's own resizing."""

import copy

import pytest
import torch
import torch.nn.functional as F
from several_quantizers import normal

from rotvq.errors import UserError
from rotvq.quantization import (
    EMA,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    MultiScaleQuantizer,
    Restart,
    VectorQuantizer,
    nearest,
)
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.scales import gathered
from rotvq.scales import cells

SCALES, D = (1, 2, 4), 6


def quantizer(dropout=0.0, **more):
    torch.manual_seed(0)
    one = VectorQuantizer(40, D, channel_dim=1, **{"update": EMA(0.5), **more})
    found = MultiScaleQuantizer(one, SCALES, dropout)
    with torch.no_grad():
        one.codebook.embeddings.copy_(normal(40, D, seed=1))
        for level, phi in enumerate(found.phi):
            phi.weight.copy_(0.2 * normal(D, D, 3, 3, seed=level))
    return found


def algorithm(whole, z):
    """Algorithm 1 of VAR: the sum, the tokens of each scale, and the losses of each scale."""
    e, total, tokens, losses = whole.codebook.embeddings, torch.zeros_like(z), [], []
    for scale, phi in zip(SCALES, whole.phi, strict=True):
        size = cells(z.shape[2], scale, SCALES[-1]), cells(z.shape[3], scale, SCALES[-1])
        small = F.interpolate(z - total, size=size, mode="area")
        index = nearest(small.movedim(1, -1).flatten(0, 2), e)
        codes = e[index].view(len(z), *size, D).movedim(-1, 1)
        large = F.interpolate(codes, size=z.shape[2:], mode="bicubic")
        total = total + 0.5 * large + 0.5 * F.conv2d(large, phi.weight, padding=1)
        tokens.append(index.view(len(z), *size))
        losses.append((z - total).square().mean())
    return total, tokens, losses


@pytest.mark.parametrize("grid", [(4, 4), (6, 8), (1, 3)])
@torch.no_grad()
def test_the_algorithm(grid):
    whole, z = quantizer().eval(), normal(3, D, *grid)
    out, (total, tokens, losses) = whole(z), algorithm(whole, z)
    torch.testing.assert_close(out.z_q, total)
    for level, expected in enumerate(tokens):
        assert torch.equal(whole.tokens(out.indices, level), expected)
        assert (out.indices[..., level] >= 0).sum() == expected.numel()
    for found in (out.commitment_loss, out.codebook_loss):
        torch.testing.assert_close(found, torch.stack(losses).mean())
    assert torch.equal(whole.encode(z), out.indices)
    assert torch.equal(whole.lookup(out.indices), out.z_q), "to the same bits"


@torch.no_grad()
def test_the_first_scales_decode_alone():
    whole, z = quantizer().eval(), normal(2, D, 4, 8)
    indices = whole.encode(z)
    for levels in (1, 2, 3):
        others = indices.clone()
        others[..., levels:] = -1
        assert torch.equal(whole.lookup(indices[..., :levels]), whole.lookup(others))


def test_phi_starts_as_the_identity():
    x = normal(2, D, 4, 4)
    fresh = MultiScaleQuantizer(VectorQuantizer(8, D, channel_dim=1), (1, 2))
    assert torch.equal(fresh.phi[0](x), x)


@pytest.mark.parametrize("estimator", ["straight_through", "rotation", "lifted_rotation"])
def test_the_gradient_is_that_of_one_quantizer(estimator):
    whole = quantizer(estimator=estimator).eval()
    z, g = normal(2, D, 4, 4).requires_grad_(), normal(2, D, 4, 4, seed=9)
    out = whole(z)
    (found,) = torch.autograd.grad(out.z_q, z, g)
    rows, codes, slopes = (t.movedim(1, -1) for t in (z, out.z_q.detach(), g))
    (expected,) = torch.autograd.grad(ESTIMATORS[estimator](rows, codes), z, slopes)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("update", [EMA(), GradientLearned()])
def test_the_codebook_loss_teaches_phi_and_learned_codes(update):
    whole = quantizer(update=update)
    whole(normal(4, D, 4, 4)).loss().backward()
    assert all(phi.weight.grad.abs().sum() > 0 for phi in whole.phi)
    codes = dict(whole.named_parameters()).get("quantizer.codebook.embeddings")
    assert (codes is not None) == update.learned
    assert codes is None or codes.grad.abs().sum() > 0


def test_one_step_moves_the_shared_codebook_by_the_vectors_of_all_scales():
    whole, z = quantizer(), normal(8, D, 4, 4)
    alone = copy.deepcopy(whole.codebook)
    with torch.no_grad():
        _, tokens, _ = algorithm(whole, z)
        total = torch.zeros_like(z)
        out = whole(z)
        for level, scale in enumerate(SCALES):
            size = scale, scale
            small = F.interpolate(z - total, size=size, mode="area").movedim(1, -1).flatten(0, 2)
            every = torch.ones(len(small), dtype=torch.bool)
            alone.accumulate(small, tokens[level].flatten(), every)
            codes = alone.embeddings[tokens[level]].movedim(-1, 1)
            large = F.interpolate(codes, size=(4, 4), mode="bicubic")
            total = total + whole.phi[level](large)
        alone.step()
    assert out.indices.shape == (8, 4, 4, 3)
    for name in ("embeddings", "cluster_size", "embed_sum", "idle"):
        torch.testing.assert_close(getattr(whole.codebook, name), getattr(alone, name))


def test_codes_start_from_vectors_of_all_scales_and_dead_ones_restart():
    whole = quantizer(init="data", restart=Restart(0.1))
    whole.phi = MultiScaleQuantizer(whole.quantizer, SCALES).phi
    whole.codebook.initialized.zero_()
    z = 3 + normal(16, D, 4, 4)
    out = whole(z)
    assert whole.codebook.ready and out.commitment_loss < 2
    # One code is near the means of images, which no vector of a finer scale is.
    means = z.mean((2, 3))
    assert torch.cdist(means, whole.codebook.embeddings).min(1).values.max() < 2
    with torch.no_grad():
        whole.codebook.embeddings[:5] = 1e3
    for _ in range(20):
        whole(z)
    assert whole.codebook.embeddings.abs().max() < 100


def test_dropout_leaves_out_the_last_scales_of_some_images():
    whole, z = quantizer(dropout=1.0), normal(300, D, 4, 4)
    alone = copy.deepcopy(whole).eval()
    out = whole(z)
    numbers = (gathered(out.indices[:, 0, 0], 1, 1) >= 0).sum(-1)
    found = numbers.bincount(minlength=4)[1:] / 300
    assert (found - 1 / 3).abs().max() < 0.1
    assert torch.equal(alone.lookup(out.indices), out.z_q), "−1 adds nothing"
    expected = alone.encode(z)
    losses = []
    for level in range(3):
        own = numbers > level
        assert torch.equal(out.indices[own][..., level], expected[own][..., level])
        assert (out.indices[~own][..., level] == -1).all()
        losses.append((z - alone.lookup(expected[..., : level + 1]))[own].square().mean())
    torch.testing.assert_close(out.commitment_loss, torch.stack(losses).mean())
    assert torch.equal(whole.eval().encode(z), whole(z).indices)


def test_autocast_changes_no_index():
    whole, z = quantizer().eval(), normal(4, D, 4, 4)
    expected = whole(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(whole(z).indices, expected.indices)
        assert torch.equal(whole.encode(z), expected.indices)


def test_what_does_not_fit_is_refused():
    one = VectorQuantizer(8, D, channel_dim=1)
    for scales in ((), (2, 1), (1, 1), (0, 1), (1, 2.5), (1, 10**4)):
        with pytest.raises(UserError, match="scales: expected increasing integers"):
            MultiScaleQuantizer(one, scales)
    for other in (VectorQuantizer(8, D), FiniteScalarQuantizer([3] * D, channel_dim=1)):
        with pytest.raises(UserError, match="expected a VectorQuantizer with channel_dim=1"):
            MultiScaleQuantizer(other, SCALES)
    with pytest.raises(UserError, match="metric: expected euclidean"):
        MultiScaleQuantizer(VectorQuantizer(8, D, channel_dim=1, metric="cosine"), SCALES)
    with pytest.raises(UserError, match="got the reflection"):
        quantizer(estimator="reflection")
    with pytest.raises(UserError, match=r"dropout: expected 0 to 1; got 1\.5"):
        quantizer(dropout=1.5)
    whole = quantizer()
    with pytest.raises(UserError, match=r"expected maps \(batch, 6, rows, columns\)"):
        whole(normal(4, D, 4))
    with pytest.raises(UserError, match="expected 6 channels"):
        whole(normal(4, 5, 4, 4))
    with pytest.raises(UserError, match="mask: expected None"):
        whole(normal(4, D, 4, 4), torch.ones(4, 4, 4, dtype=torch.bool))
    with pytest.raises(UserError, match="with 1 to 3 scales; got"):
        whole.lookup(torch.zeros(2, 4, 4, 4, dtype=torch.int64))
    with pytest.raises(UserError, match="whose maps overlap"):
        _ = whole.tables
    with pytest.raises(UserError, match="got a MultiScaleQuantizer"):
        GroupedQuantizer([whole, whole])
