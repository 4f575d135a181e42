"""The first levels of residual tokens: encoded and decoded alone."""

import pytest
import torch

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.model.error_functions import squared_error
from rotvq.model.level_search import LevelSearch
from rotvq.quantization import GroupedQuantizer, ResidualQuantizer, VectorQuantizer


def levels(d, number=3):
    return ResidualQuantizer([VectorQuantizer(16, d, channel_dim=1) for _ in range(number)])


KINDS = {
    "residual": lambda: levels(8),
    "nested": lambda: GroupedQuantizer([levels(4), levels(4)]),
}


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    net = VQVAE(width=8, dim=8, depth=1, quantizer=KINDS[request.param]()).eval()
    for codebook in net.quantizer.codebooks:
        torch.nn.init.normal_(codebook.embeddings, std=0.3)
    return net


@pytest.fixture
def x():
    return torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1


def sums(net, indices):
    """The sums of exact rows of the codebooks, group by group."""
    groups = net.quantizer.quantizers if indices.ndim > 4 else [net.quantizer]
    parts = indices.unbind(3) if indices.ndim > 4 else [indices]
    found = []
    for group, part in zip(groups, parts, strict=True):
        total = 0
        for level, own in zip(group.quantizers, part.unbind(-1), strict=False):
            total = total + level.codebook.embeddings[own]
        found.append(total)
    return torch.cat(found, -1).movedim(-1, 1)


@torch.no_grad()
def test_the_decoder_sees_sums_of_the_first_rows(model, x):
    indices = model.encode(x)
    assert torch.equal(model.decode(indices), model(x).reconstruction)
    assert torch.equal(model.decode(indices, 3), model.decode(indices))
    for number in (1, 2, 3):
        expected = model.decoder(sums(model, indices[..., :number]))
        assert torch.equal(model.decode(indices, number), expected)
        assert torch.equal(model.encode(x, levels=number), indices[..., :number])
        assert torch.equal(model.decode(indices[..., :number]), expected)


@torch.no_grad()
def test_a_search_raises_the_error_at_no_number_of_levels(model, x):
    plain, found = model.encode(x), model.encode(x, effort=3)
    fewer = model.encode(x, effort=3, levels=2)
    assert (found.shape, fewer.shape) == (plain.shape, plain[..., :2].shape)
    for tokens in (found, fewer):
        for number in range(1, tokens.shape[-1] + 1):
            before, after = (squared_error(model.decode(i, number), x) for i in (plain, tokens))
            assert (after <= before).all() and after.sum() < before.sum()


@torch.no_grad()
def test_an_image_that_gets_worse_keeps_its_first_tokens(model, x):
    plain = torch.randint_like(model.encode(x, levels=2), 16)
    exact = model.decode(plain)  # no tokens of two levels are better
    search, first = LevelSearch(model, 2, levels=2), plain[..., :1]
    assert not torch.equal(search.searches[0](exact, first, 4), first)
    assert torch.equal(search(exact, plain), plain)


def test_numbers_of_levels_out_of_range_are_refused(model, x):
    indices = model.encode(x)
    for number in (0, -1, 4):
        with pytest.raises(UserError, match=rf"levels: expected 1 to 3; got {number}\."):
            model.encode(x, levels=number)
        with pytest.raises(UserError, match=r"levels: expected 1 to 3; got"):
            model.decode(indices, number)
    with pytest.raises(UserError, match=r"levels: expected 1 to 2; got 3"):
        model.decode(indices[..., :2], 3)


def test_a_model_without_levels_has_one(x):
    net = VQVAE(width=8, dim=8, depth=1).eval()
    indices = net.encode(x, levels=1)
    assert torch.equal(net.decode(indices, 1), net.decode(indices))
    with pytest.raises(UserError, match=r"levels: expected 1; got 2\. The model's quantizer is no"):
        net.decode(indices, 2)
