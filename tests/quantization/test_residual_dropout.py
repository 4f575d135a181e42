"""Quantizer dropout: images of a random number of levels, against a loop over the images."""

import copy

import pytest
import torch
from several_quantizers import layer, normal, residual

from rotvq.errors import UserError
from rotvq.quantization import ResidualQuantizer


def dropping(share, levels=3, **more):
    found = residual(levels, **more)
    return ResidualQuantizer(list(found.quantizers), share)


def levels_of(indices):
    """How many levels each vector has; those left out are −1 and come last."""
    numbers = (indices >= 0).sum(-1)
    expected = torch.arange(indices.shape[-1]) < numbers.unsqueeze(-1)
    assert torch.equal(indices >= 0, expected)
    return numbers


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_each_number_of_levels_is_equally_likely(share):
    torch.manual_seed(0)
    n, levels = 6000, 3
    numbers = levels_of(dropping(share, levels)(normal(n, 8)).indices)
    expected = torch.tensor([share / 3, share / 3, 1 - 2 * share / 3])
    found = numbers.bincount(minlength=4)[1:] / n
    assert (found - expected).abs().max() < 4 * (0.25 / n) ** 0.5


@pytest.mark.parametrize("channel_dim", [1, -1])
def test_an_image_is_coded_as_by_its_levels_alone(channel_dim):
    torch.manual_seed(0)
    quantizer = dropping(0.7, channel_dim=channel_dim)
    z = normal(40, 5, 6, 8).movedim(-1, channel_dim)
    alone = residual(channel_dim=channel_dim).eval()
    out = quantizer(z)
    numbers = levels_of(out.indices).flatten(1)
    assert (numbers == numbers[:, :1]).all(), "one number for all vectors of an image"
    assert set(numbers.flatten().tolist()) == {1, 2, 3}
    assert torch.equal(alone.lookup(out.indices), out.z_q), "−1 adds nothing"
    for image, number in enumerate(numbers[:, 0].tolist()):
        indices = alone.encode(z[image : image + 1])[..., :number]
        assert torch.equal(out.indices[image, ..., :number], indices[0])
        torch.testing.assert_close(out.z_q[image], alone.lookup(indices)[0])


def test_statistics_and_losses_are_those_of_the_levels_in_use():
    torch.manual_seed(0)
    quantizer, rest, losses = dropping(1.0), normal(60, 8), []
    alone = copy.deepcopy(quantizer)
    out = quantizer(rest)
    for number, (level, single) in enumerate(
        zip(quantizer.quantizers, alone.quantizers, strict=True)
    ):
        kept = out.indices[:, number] >= 0
        assert number == 0 or 0 < kept.sum() < 60
        result = single(rest[kept])
        losses.append(result.commitment_loss)
        for name in ("embeddings", "cluster_size", "embed_sum"):
            found, expected = (getattr(each.codebook, name) for each in (level, single))
            torch.testing.assert_close(found, expected)
        rest[kept] -= result.z_q
    torch.testing.assert_close(out.commitment_loss, torch.stack(losses).mean())


def test_a_level_that_no_image_uses_keeps_its_codes():
    torch.manual_seed(0)
    quantizer = dropping(1.0)
    before = [c.embeddings.clone() for c in quantizer.codebooks]
    while (out := quantizer(normal(1, 4, 8))).indices[..., 1:].max() >= 0:
        before = [c.embeddings.clone() for c in quantizer.codebooks]
    assert out.loss().isfinite()
    after = [c.embeddings for c in quantizer.codebooks]
    assert not torch.equal(before[0], after[0])
    for old, new in zip(before[1:], after[1:], strict=True):
        torch.testing.assert_close(old, new)


def test_evaluation_and_encode_use_all_levels():
    quantizer, z = dropping(1.0), normal(30, 8)
    expected = residual().eval()(z)
    assert torch.equal(quantizer.encode(z), expected.indices)
    assert torch.equal(quantizer.eval()(z).indices, expected.indices)
    assert torch.equal(quantizer(z).z_q, expected.z_q)


def test_masked_vectors_stay_out():
    torch.manual_seed(0)
    quantizer, z = dropping(0.5), normal(20, 7, 8)
    mask = normal(20, 7, seed=4) > 0
    out = quantizer(z, mask)
    numbers = levels_of(out.indices)
    assert (numbers[~mask] == 0).all() and (numbers[mask] > 0).all()
    assert numbers[mask].unique().tolist() == [1, 2, 3]
    assert (out.z_q[~mask] == 0).all()


def test_micro_batches_equal_one_batch():
    found = []
    for parts in (1, 4):
        torch.manual_seed(0)
        quantizer = dropping(0.8, defer_update=True)
        indices = [quantizer(part).indices for part in normal(24, 5, 8).chunk(parts)]
        quantizer.update_codebook()
        found.append((torch.cat(indices), [c.embeddings for c in quantizer.codebooks]))
    (one, codes), (several, others) = found
    assert torch.equal(one, several)
    assert all(torch.equal(a, b) for a, b in zip(codes, others, strict=True))


def test_shares_outside_zero_to_one_are_refused():
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match=r"dropout: expected 0 to 1; got"):
            ResidualQuantizer([layer(), layer()], share)
