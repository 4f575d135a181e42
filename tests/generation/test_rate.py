"""The cost of tokens beside bits that the whole network gives, one change at a time."""

import math

import pytest
import torch
from tiny_tokens import CODECS, draw_indices

from rotvq.errors import UserError
from rotvq.generation.rate import PriorRate
from rotvq.model.error_functions import squared_error
from rotvq.model.objective import own
from rotvq.tokens.coding import encode
from rotvq.tokens.model_codec import codec

GRID = (2, 3)


@pytest.fixture(params=[name for name, codec in CODECS.items() if not codec.scales])
def any_codec(request):
    """Tokens with an index at every position; a search refuses a rate over others."""
    return CODECS[request.param]


@pytest.fixture
def make_rate(make_prior, monkeypatch):
    """A rate of λ = 0.5 over random tokens."""

    def make(kind, weight=0.5):
        monkeypatch.setattr("rotvq.generation.rate.codec", lambda model: kind)
        return PriorRate(make_prior(kind), None, weight)

    return make


def rows(kind, n=4):
    """Tokens in the order of the search, (n, indices of a token, rows, columns)."""
    indices = torch.from_numpy(draw_indices(kind, n, GRID))
    return indices.flatten(3).movedim(3, 1) if kind.index_shape else indices.unsqueeze(1)


def sequences(prior, indices):
    """Without a class."""
    vocabulary = prior.vocabulary
    shape = (len(indices), *GRID, *vocabulary.codec.index_shape)
    each = indices.movedim(1, 3).reshape(shape).numpy()
    return torch.from_numpy(vocabulary.sequences(each, [None] * len(each)))


def bits(prior, indices):
    """Of each image."""
    with torch.no_grad():
        return prior(sequences(prior, indices)).sum(1) / math.log(2)


def test_an_image_costs_its_bits(any_codec, make_rate):
    rate, indices = make_rate(any_codec), rows(any_codec)
    cost, costs = rate(indices)
    torch.testing.assert_close(cost, 0.5 * bits(rate.prior, indices))
    assert [each.shape for each in costs] == [(4, *GRID, k) for k in any_codec.codebook_sizes]
    assert not any(parameter.grad is not None for parameter in rate.prior.parameters())


def test_a_change_costs_what_it_adds_to_the_bits_of_its_own_index_and_of_later_ones(
    any_codec, make_rate
):
    rate, indices = make_rate(any_codec), rows(any_codec)
    # Embeddings so alike that what a code changes in later tokens is linear.
    table = rate.prior.network.get_input_embeddings().weight
    with torch.no_grad():
        for codes in rate.prior.vocabulary.codes:
            alike = table[codes.start : codes.stop]
            alike.copy_(alike.mean(0) + 2e-3 * (alike - alike.mean(0)))
    cost, costs = rate(indices)
    with torch.no_grad():
        logits = rate.prior.logits(rate.prior.embedded(sequences(rate.prior, indices)))
        alone = tuple(
            -0.5 / math.log(2) * each.log_softmax(2).unflatten(1, GRID) for each in logits
        )
    errors, ignoring_later = [], []
    for level, size in enumerate(any_codec.codebook_sizes):
        for row, column in ((0, 0), (0, 2), (1, 1), (1, 2)):
            other = indices.clone()
            other[:, level, row, column] = (other[:, level, row, column] + 1) % size
            change = 0.5 * bits(rate.prior, other) - cost
            for found, kept in ((costs, errors), (alone, ignoring_later)):
                kept.append((own(found, other) - own(found, indices)).sum((1, 2)) - change)
    errors, ignoring_later = (torch.stack(each).abs() for each in (errors, ignoring_later))
    assert errors.mean() < 0.1 * ignoring_later.mean()
    assert errors.max() < 0.3 * ignoring_later.max()


def test_a_search_finds_tokens_that_take_fewer_bits(tokenizer, make_prior):
    prior = make_prior(codec(tokenizer), ((4, 4),))
    x = torch.rand(6, 3, 8, 8) * 2 - 1
    first = tokenizer.encode(x)
    found = {}
    for weight in (0.0, 0.05, 100.0):
        rate = PriorRate(prior, tokenizer, weight)
        found[weight] = tokenizer.encode(x, effort=4, rate=rate)
        before, after = (
            squared_error(tokenizer.decode(each), x) + rate(each[:, None])[0]
            for each in (first, found[weight])
        )
        assert (after <= before + 1e-4).all()
    one = PriorRate(prior, tokenizer, 1.0)
    taken = [one(each[:, None])[0].mean().item() for each in found.values()]
    assert taken == sorted(taken, reverse=True) and taken[2] < 0.75 * taken[0]
    assert torch.equal(found[0.0], tokenizer.encode(x, effort=4))


def test_bits_of_tokens_are_those_of_their_images(residual_tokenizer, make_prior):
    prior = make_prior(codec(residual_tokenizer), ((4, 4), (2, 4)))
    rate = PriorRate(prior, residual_tokenizer, 0.01)
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8).numpy()
    images = [("", image[:, : 4 if number == 2 else 8]) for number, image in enumerate(pixels)]
    tokens = encode(residual_tokenizer, images, effort=2, rate=rate)
    costs = [rate(torch.from_numpy(each)[None].movedim(3, 1))[0].item() for each in tokens]
    assert rate.bits(tokens, 2) == pytest.approx(sum(costs) / 0.01 / 5, rel=1e-5)
    first = encode(residual_tokenizer, images, levels=1)
    with pytest.raises(
        UserError, match=r"of model (\w+) with 2 codebooks; got tokens of model \1 with 1 "
    ):
        rate.bits(first)


def test_what_does_not_fit_is_refused(tokenizer, residual_tokenizer, make_prior):
    prior = make_prior(codec(tokenizer), ((4, 4),))
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="rate weight: expected a finite number, 0 or more"):
            PriorRate(prior, tokenizer, weight)
    with pytest.raises(UserError, match="prior: expected one over the tokens of model"):
        PriorRate(prior, residual_tokenizer, 0.1)
    rate = PriorRate(prior, tokenizer, 0.1)
    with pytest.raises(UserError, match=r"grid: expected one .* \(4x4\); got 2x4"):
        tokenizer.encode(torch.zeros(1, 3, 4, 8), effort=1, rate=rate)
