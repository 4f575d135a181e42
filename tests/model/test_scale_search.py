"""A model of several scales: its reconstruction, fewer scales, and the search for its tokens."""

import pytest
import torch

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.model.error_functions import squared_error
from rotvq.model.level_search import LevelSearch
from rotvq.model.levels import number_of_bits, number_of_tokens
from rotvq.model.scale_search import ScaleSearch
from rotvq.quantization import MultiScaleQuantizer, VectorQuantizer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    quantizer = MultiScaleQuantizer(VectorQuantizer(16, 8, channel_dim=1), (1, 2, 4))
    net = VQVAE(width=8, dim=8, depth=0, quantizer=quantizer, network="patches").eval()
    for codebook in quantizer.codebooks:
        torch.nn.init.normal_(codebook.embeddings, std=0.3)
    return net


@pytest.fixture(scope="module")
def x():
    return torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_the_first_scales_decode_alone(model, x):
    indices = model.encode(x)
    assert torch.equal(model.decode(indices), model(x).reconstruction)
    for number in (1, 2, 3):
        first = indices[..., :number]
        expected = model.decoder(model.quantizer.lookup(first))
        assert torch.equal(model.decode(indices, number), expected)
        assert torch.equal(model.encode(x, levels=number), first)
        tokens = number_of_tokens(model.quantizer, (4, 6), number)
        assert tokens == (first[0] >= 0).sum()
        assert number_of_bits(model.quantizer, (4, 6), number) == 4 * tokens


@torch.no_grad()
def test_a_search_makes_no_number_of_scales_worse(model, x):
    plain, found = model.encode(x), model.encode(x, effort=2)
    assert torch.equal(found >= 0, plain >= 0)
    for number in (1, 2, 3):
        before, after = (squared_error(model.decode(i, number), x) for i in (plain, found))
        assert (after <= before).all() and after.sum() < before.sum()


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_search_decodes_as_the_model_does(model, x, levels):
    indices = model.encode(x, levels=levels)
    search = ScaleSearch(model, levels)
    found = search(x, indices, 2)
    assert torch.equal(found[..., : levels - 1], indices[..., : levels - 1])
    tokens = model.quantizer.tokens(found, levels - 1)
    torch.testing.assert_close(search.view.decode(tokens), model.decode(found))


def test_a_rate_is_refused(model, x):
    with pytest.raises(UserError, match="rate: expected a quantizer with a token for each posit"):
        LevelSearch(model, 1)(x, model.encode(x), rate=lambda indices: (0, ()))


def test_only_free_tokens_change(model, x):
    indices = model.encode(x)
    free = torch.zeros(indices.shape[1:3], dtype=torch.bool)
    free[:2] = True
    for level in range(3):
        found = ScaleSearch(model, level + 1)(x, indices[..., : level + 1], 2, free=free)
        changed = (found != indices[..., : level + 1])[..., level]
        assert changed[:, :2].any() and not changed[:, 2:].any()
