"""Layers with fixed codes, scalar codes and random codes, and the peer's where it is installed."""

import pytest
import torch
import torch.nn.functional as F

from rotvq.compat import (
    FSQ,
    LFQ,
    GroupedResidualFSQ,
    GroupedResidualLFQ,
    LatentQuantize,
    RandomProjectionQuantizer,
    ResidualFSQ,
    ResidualLFQ,
)
from rotvq.errors import UserError


def alike(theirs, ours):
    for name in ("project_in", "project_out"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    return theirs, ours


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dim", [None, 6])
@pytest.mark.parametrize("codebooks", [1, 2])
@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4)])
def test_fsq_equals_the_peers(library, symmetric, dim, codebooks, shape):
    torch.manual_seed(0)
    arguments = {"levels": [8, 5, 3], "dim": dim, "num_codebooks": codebooks}
    arguments["preserve_symmetry"] = symmetric
    theirs, ours = alike(library.FSQ(**arguments), FSQ(**arguments))
    channels = dim or 3 * codebooks
    x = 2 * torch.randn((*shape, channels) if len(shape) == 2 else (2, channels, 3, 4))
    expected, their_indices = theirs(x)
    quantized, indices = ours(x)
    assert torch.equal(indices, their_indices.long())
    torch.testing.assert_close(quantized, expected)
    torch.testing.assert_close(ours.indices_to_codes(indices), quantized)
    assert ours.codebook_size == theirs.codebook_size
    torch.testing.assert_close(ours.implicit_codebook, theirs.implicit_codebook)


def test_residual_lfq_of_images_equals_the_peers(library):
    torch.manual_seed(0)
    x = torch.randn(2, 8, 8, 8)
    arguments = {"dim": 8, "num_quantizers": 2, "codebook_size": 256}
    theirs, ours = library.ResidualLFQ(**arguments).eval(), ResidualLFQ(**arguments).eval()
    for expected, found in zip(theirs(x)[:2], ours(x)[:2], strict=True):
        torch.testing.assert_close(found, expected)
    arguments |= {"dim": 16, "groups": 2, "accept_image_fmap": True}
    theirs, ours = (
        kind(**arguments).eval() for kind in (library.GroupedResidualLFQ, GroupedResidualLFQ)
    )
    for width in (8, 16):
        x = torch.randn(2, 16, 4, width)
        for expected, found in zip(theirs(x)[:2], ours(x)[:2], strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: ResidualLFQ(dim=6, num_quantizers=2, codebook_size=16),
        lambda: ResidualFSQ(dim=6, levels=[8, 5, 3], num_quantizers=2),
    ],
)
def test_projected_outputs_of_indices_are_those_of_the_pass_in_any_precision(layer, dtype):
    torch.manual_seed(0)
    layer = layer().to(dtype).eval()
    quantized, indices, *_ = layer(torch.randn(2, 9, 6, dtype=dtype))
    assert torch.equal(layer.get_output_from_indices(indices), quantized)


def test_nothing_to_learn_from_costs_nothing():
    x = torch.randn(2, 9, 4)
    assert LFQ(dim=4)(x, mask=torch.zeros(2, 9, dtype=torch.bool))[2] == 0
    assert LatentQuantize([5, 5], 2)(torch.randn(0, 2, 9))[2] == 0
    grouped = GroupedResidualLFQ(dim=8, groups=2, num_quantizers=1, codebook_size=16)
    assert not grouped(torch.randn(2, 9, 8), torch.zeros(2, 9, dtype=torch.bool))[2].any()


def test_fsq_arguments():
    assert FSQ([4, 4], return_indices=False)(torch.randn(1, 5, 2))[1] is None
    first = FSQ([4, 4], channel_first=True)
    assert first(torch.randn(1, 2, 5))[1].shape == (1, 5)
    with pytest.raises(UserError, match=r"noise_dropout: expected 0\.0; got 0\.5"):
        FSQ([4, 4], noise_dropout=0.5)
    with pytest.raises(UserError, match=r"x: expected 2 channels at dimension -1; got shape \(1"):
        FSQ([4, 4])(torch.randn(1, 5, 3))


@pytest.mark.parametrize("dim", [None, 6])
@pytest.mark.parametrize("first", [False, True])
def test_residual_fsq_equals_the_peers(library, dim, first):
    torch.manual_seed(0)
    arguments = {"levels": [8, 5, 3], "dim": dim, "num_quantizers": 3, "is_channel_first": first}
    theirs, ours = alike(library.ResidualFSQ(**arguments), ResidualFSQ(**arguments))
    x = torch.randn((2, dim or 3, 9) if first else (2, 9, dim or 3))
    expected = theirs.eval()(x, return_all_codes=not first)
    found = ours.eval()(x, return_all_codes=not first)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.get_output_from_indices(found[1]), found[0])


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("codebooks", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_lfq_equals_the_peers(library, spherical, scale, codebooks, masked):
    torch.manual_seed(0)
    arguments = {"codebook_size": 16, "num_codebooks": codebooks, "codebook_scale": scale}
    arguments |= {"spherical": spherical, "commitment_loss_weight": 0.3}
    theirs, ours = library.LFQ(**arguments), LFQ(**arguments)
    x = torch.randn(2, 4 * codebooks, 5, 6)
    mask = torch.tensor([True, False]) if masked else None
    results = []
    for quantizer in (theirs, ours):
        leaf = x.clone().requires_grad_()
        (quantized, indices, loss), parts = quantizer(
            leaf, inv_temperature=2.0, return_loss_breakdown=True, mask=mask
        )
        (loss + quantized.square().sum()).backward()
        results.append((quantized, indices.long(), loss, *parts, leaf.grad))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(ours.indices_to_codes(results[1][1]), ours.eval()(x).quantized)
    torch.testing.assert_close(ours.codebook / scale, theirs.codebook / (2 if spherical else 1)
                               if scale == 1 else ours.codebook / scale)  # fmt: skip


def test_lfq_arguments():
    with pytest.raises(UserError, match=r"codebook_size: expected a power of 2 \(16\?\); got 12"):
        LFQ(codebook_size=12)
    with pytest.raises(UserError, match="dim: expected dim, codebook_size or both; got neither"):
        LFQ()
    with pytest.raises(UserError, match="orthogonal_rotation: expected False; got True"):
        LFQ(dim=4, orthogonal_rotation=True)
    bounded = LFQ(dim=4, soft_clamp_input_value=2.0, commitment_loss_weight=1.0)
    _, parts = bounded(1e6 * torch.ones(1, 3, 4), return_loss_breakdown=True)
    torch.testing.assert_close(parts.commitment, torch.tensor(1.0))


def test_lfq_has_no_table_of_its_codes():
    quantizer = LFQ(codebook_size=2**40, dim=40)
    x = torch.randn(1, 20, 40, requires_grad=True)
    quantized, indices, loss = quantizer(x)
    loss.backward()
    assert torch.equal(quantizer.indices_to_codes(indices), quantized) and x.grad.any()


@pytest.mark.parametrize("dim", [4, 10])
def test_residual_lfq_equals_the_peers(library, dim):
    torch.manual_seed(0)
    arguments = {"dim": dim, "num_quantizers": 3, "codebook_size": 16}
    theirs, ours = alike(library.ResidualLFQ(**arguments), ResidualLFQ(**arguments))
    x = torch.randn(2, 9, dim)
    expected, found = (q.eval()(x, return_all_codes=True) for q in (theirs, ours))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.get_output_from_indices(found[1]), found[0])
    assert ours.codebooks.shape == theirs.codebooks.shape
    ours.train()
    assert ours(x)[2].shape == (3,) and ours(x)[2].any()


@pytest.mark.parametrize("kind", ["GroupedResidualFSQ", "GroupedResidualLFQ"])
def test_groups_have_the_shapes_of_the_peers(library, kind):
    own = {"GroupedResidualFSQ": GroupedResidualFSQ, "GroupedResidualLFQ": GroupedResidualLFQ}
    more = {"levels": [5, 3]} if "FSQ" in kind else {"codebook_size": 16}
    arguments = {"dim": 8, "groups": 2, "num_quantizers": 3, **more}
    theirs, ours = getattr(library, kind)(**arguments), own[kind](**arguments)
    x = torch.randn(2, 9, 8)
    expected, found = theirs.eval()(x), ours.eval()(x)
    assert [t.shape for t in found] == [t.shape for t in expected]
    torch.testing.assert_close(ours.get_output_from_indices(found[1]), found[0])


@pytest.mark.parametrize("levels", [[5, 5, 8], 4])
@pytest.mark.parametrize("dim", [3, 6])
def test_latent_quantize(library, levels, dim):
    torch.manual_seed(0)
    arguments = {"levels": levels, "dim": dim, "codebook_dim": 3 if levels == 4 else -1}
    theirs, ours = library.LatentQuantize(**arguments), LatentQuantize(**arguments)
    alike(theirs, ours)
    x = (0.3 * torch.randn(2, dim, 4, 5)).requires_grad_()
    expected, found = theirs(x), ours(x)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[2], expected[2])
    torch.testing.assert_close(ours.indices_to_codes(found[1]), found[0])
    found[2].backward()
    assert all(p.grad is not None for p in ours.quantizer.parameters()) and x.grad.any()


def test_learned_values_decode_to_what_was_encoded():
    ours = LatentQuantize([3, 2], 2)
    for channel in ours.quantizer.quantizers:
        channel.codebook.set_codes(torch.randn_like(channel.codebook.embeddings))
    quantized, indices, _ = ours(torch.randn(2, 2, 30))
    assert torch.equal(ours.indices_to_codes(indices), quantized)


@pytest.mark.parametrize("codebooks", [1, 3])
def test_random_projections_choose_the_largest_cosine(codebooks):
    torch.manual_seed(0)
    ours = RandomProjectionQuantizer(
        dim=12, num_codebooks=codebooks, codebook_dim=4, codebook_size=16
    )
    x = torch.randn(2, 9, 12)
    projected = torch.einsum("bnd,hde->bnhe", F.layer_norm(x, (12,)), ours.rand_projs)
    similarity = torch.einsum(
        "bnhe,hke->bnhk", F.normalize(projected, dim=-1), ours.vq.codebook.view(codebooks, 16, 4)
    )
    found = ours(x)
    assert torch.equal(found, similarity.argmax(-1).squeeze(-1 if codebooks == 1 else 0))
    expected = F.cross_entropy(similarity.flatten(0, -2), similarity.argmax(-1).flatten())
    torch.testing.assert_close(ours(x, found), expected)
    before = ours.vq.codebook.clone()
    ours.train()(x)
    assert torch.equal(ours.vq.codebook, before)
