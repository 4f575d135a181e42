"""Residual and grouped quantizers against loops over single ones."""

import copy

import pytest
import torch

from rotvq.errors import UserError
from rotvq.quantization import (
    EMA,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
    nearest,
)
from rotvq.quantization.estimators import ESTIMATORS


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(k=32, d=8, seed=1, **more):
    quantizer = VectorQuantizer(k, d, update=EMA(0.5), **more)
    quantizer.codebook.embeddings.copy_(normal(k, d, seed=seed))
    return quantizer


def residual(levels=3, **more):
    return ResidualQuantizer([layer(seed=s, **more) for s in range(1, levels + 1)])


def grouped(**more):
    return GroupedQuantizer([layer(d=8, **more), layer(k=20, d=3, seed=2, **more)])


def test_each_level_codes_what_is_left():
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


@pytest.mark.parametrize("make", [residual, grouped])
@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_decoding_gives_exact_codes(make, channel_dim):
    quantizer = make(channel_dim=channel_dim)
    d = 8 if make is residual else 11
    z = normal(2, 5, 7, d) if channel_dim == -1 else normal(2, d, 5, 7)
    before = copy.deepcopy(quantizer).eval()
    out = quantizer(z)
    assert out.z_q.shape == z.shape
    assert out.indices.shape == (2, 5, 7, len(quantizer.quantizers))
    assert torch.equal(before.lookup(out.indices), out.z_q)
    assert torch.equal(before.encode(z), out.indices)


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


def test_groups_are_quantizers_of_their_channels():
    quantizer = grouped()
    alone = copy.deepcopy(quantizer)
    z, g = normal(40, 11).requires_grad_(), normal(40, 11, seed=9)
    out = quantizer(z)
    (found,) = torch.autograd.grad(out.z_q, z, g)
    for number, (level, part) in enumerate(
        zip(alone.quantizers, (slice(0, 8), slice(8, 11)), strict=True)
    ):
        leaf = z.detach()[:, part].clone().requires_grad_()
        one = level(leaf)
        assert torch.equal(out.z_q[:, part], one.z_q)
        assert torch.equal(out.indices[:, number], one.indices)
        (expected,) = torch.autograd.grad(one.z_q, leaf, g[:, part])
        torch.testing.assert_close(found[:, part], expected)
        torch.testing.assert_close(
            level.codebook.embeddings, quantizer.quantizers[number].codebook.embeddings
        )


@pytest.mark.parametrize("make", [residual, grouped])
def test_masked_tokens_change_nothing(make):
    d = 8 if make is residual else 11
    z, mask = normal(3, 10, d), torch.rand(3, 10, generator=torch.Generator().manual_seed(0)) < 0.6
    noisy = torch.where(mask[..., None], z, float("nan")).requires_grad_()
    quantizer, other = make(), make()
    out = quantizer(noisy, mask)
    assert (out.indices[~mask] == -1).all() and (out.z_q[~mask] == 0).all()
    (gradient,) = torch.autograd.grad(out.z_q.sum() + out.commitment_loss, noisy)
    assert (gradient[~mask] == 0).all() and gradient.isfinite().all()
    other(z[mask])
    for a, b in zip(quantizer.quantizers, other.quantizers, strict=True):
        torch.testing.assert_close(a.codebook.embeddings, b.codebook.embeddings)
    assert (quantizer.lookup(out.indices)[~mask] == 0).all()


@pytest.mark.parametrize("make", [residual, grouped])
def test_deferred_steps_and_half_precision(make):
    quantizer = make(defer_update=True)
    z = normal(20, 8 if make is residual else 11).bfloat16()
    before = [q.codebook.embeddings.clone() for q in quantizer.quantizers]
    out = quantizer(z)
    assert out.z_q.dtype == torch.bfloat16
    assert all(
        torch.equal(q.codebook.embeddings, e)
        for q, e in zip(quantizer.quantizers, before, strict=True)
    )
    quantizer.update_codebook()
    assert not any(
        torch.equal(q.codebook.embeddings, e)
        for q, e in zip(quantizer.quantizers, before, strict=True)
    )


def test_bad_arguments():
    for kind in (ResidualQuantizer, GroupedQuantizer):
        with pytest.raises(UserError, match="one or more; got none"):
            kind([])
        with pytest.raises(UserError, match="one channel_dim"):
            kind([layer(), layer(channel_dim=1)])
    with pytest.raises(UserError, match=r"expected one dim in all of them; got \[8, 3\]"):
        ResidualQuantizer([layer(), layer(d=3)])
    with pytest.raises(UserError, match="expected 11 channels"):
        grouped()(normal(4, 8))
    with pytest.raises(UserError, match="expected 8 channels"):
        residual()(normal(4, 9))
    with pytest.raises(UserError, match="mask: expected bool"):
        residual()(normal(4, 8), torch.ones(4))
    with pytest.raises(UserError, match="expected 3 in dimension -1, one a quantizer, or fewer"):
        residual().lookup(torch.zeros(2, 4, dtype=torch.int64))
    for shape in ((4, 1), (4, 3), ()):
        with pytest.raises(UserError, match="expected 2 in dimension -1, one a quantizer; got"):
            grouped().lookup(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_a_prefix_of_the_levels_decodes_to_what_they_alone_would_give(channel_dim):
    quantizer = residual(4, channel_dim=channel_dim).eval()
    z = normal(2, 8, 8)
    indices = quantizer.encode(z)
    for levels in range(1, 5):
        fewer = ResidualQuantizer(list(quantizer.quantizers)[:levels])
        found = quantizer.lookup(indices[..., :levels])
        assert torch.equal(found, fewer(z).z_q)


@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_groups_of_residual_quantizers(channel_dim):
    groups = [residual(3, channel_dim=channel_dim) for _ in range(2)]
    quantizer = GroupedQuantizer(groups).eval()
    z = normal(2, 16, 16)
    halves = z.chunk(2, channel_dim)
    out = quantizer(z)
    assert out.indices.shape == (2, 16, 2, 3)
    for number, (group, half) in enumerate(zip(groups, halves, strict=True)):
        assert torch.equal(out.indices[..., number, :], group.encode(half))
    expected = torch.cat(
        [group(half).z_q for group, half in zip(groups, halves, strict=True)], channel_dim
    )
    assert torch.equal(out.z_q, expected) and torch.equal(quantizer.lookup(out.indices), expected)
    assert torch.equal(quantizer.encode(z), out.indices)
    shorter = torch.cat(
        [g.lookup(g.encode(h)[..., :1]) for g, h in zip(groups, halves, strict=True)], channel_dim
    )
    assert torch.equal(quantizer.lookup(out.indices[..., :1]), shorter)


def test_groups_of_several_kinds():
    kinds = [layer(), FiniteScalarQuantizer([3, 2, 4])]
    quantizer = GroupedQuantizer(kinds).eval()
    z = normal(20, 11)
    out = quantizer(z)
    for number, (kind, part) in enumerate(zip(kinds, z.split([8, 3], 1), strict=True)):
        assert torch.equal(out.indices[:, number], kind.encode(part))
    assert torch.equal(quantizer.lookup(out.indices), out.z_q)


def test_kinds_that_do_not_fit_are_refused_by_name():
    fsq = FiniteScalarQuantizer([8, 5, 5])
    with pytest.raises(UserError, match="got a FiniteScalarQuantizer"):
        ResidualQuantizer([fsq, fsq])
    with pytest.raises(UserError, match="got a ResidualQuantizer"):
        ResidualQuantizer([residual()])
    with pytest.raises(UserError, match="got the reflection"):
        residual(estimator="reflection")
    with pytest.raises(
        UserError, match=r"indices of one shape from all of them; got \(2,\), \(3,\)"
    ):
        GroupedQuantizer([residual(2), residual(3)])
    for quantizer in (residual(), grouped()):
        with pytest.raises(UserError, match=f"a {type(quantizer).__name__} of . has one in each"):
            _ = quantizer.codebook
