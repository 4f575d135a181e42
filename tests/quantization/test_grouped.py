"""Grouped quantizers against single ones over their channels."""

import copy

import pytest
import torch
from several_quantizers import grouped, layer, normal, residual

from rotvq.errors import UserError
from rotvq.quantization import FiniteScalarQuantizer, GroupedQuantizer, VectorQuantizer


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


def test_quantizers_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="one or more; got none"):
        GroupedQuantizer([])
    with pytest.raises(UserError, match=r"same channel_dim in all of them; got \[-1, 1\]"):
        GroupedQuantizer([layer(), layer(channel_dim=1)])
    with pytest.raises(UserError, match=r"same index shape from all of them; got \(2,\), \(3,\)"):
        GroupedQuantizer([residual(2), residual(3)])


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"expected 11 channels .* sum of the dims \[8, 3\]"):
        grouped()(normal(4, 8))
    with pytest.raises(UserError, match=r"channels at dimension 1, .* got shape \(5,\)"):
        GroupedQuantizer([VectorQuantizer(8, 4, channel_dim=1)])(torch.zeros(5))
    for shape in ((4, 1), (4, 3), ()):
        with pytest.raises(UserError, match="expected 2 in dimension -1, one for each quantizer"):
            grouped().lookup(torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(UserError, match="single codebook; got a GroupedQuantizer of 2 quantizers"):
        _ = grouped().codebook
