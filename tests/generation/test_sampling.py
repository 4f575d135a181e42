"""Samples beside ones drawn step by step from the whole network, without a cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_tokens import draw_indices

from rotvq.errors import UserError
from rotvq.generation.config import Sampling
from rotvq.generation.sampling import sample


def flat(codec, indices):
    return codec.in_sequence(indices[None]).flatten().tolist()


@torch.no_grad()
def likeliest(prior, label, grid, guidance, given=()):
    """The likeliest next index, one after the other: guidance by its definition."""
    vocabulary = prior.vocabulary
    empty = np.zeros((1, *grid, *vocabulary.codec.index_shape), np.int64)
    prompts = [
        torch.from_numpy(vocabulary.sequences(empty, [which])[:, :2]) for which in (label, None)
    ]
    drawn = []
    while len(drawn) < vocabulary.length(grid):
        codes = vocabulary.codes[len(drawn) % len(vocabulary.codes)]
        own = slice(codes.start, codes.stop)
        conditional, free = (
            prior.network(input_ids=p).logits[0, -1, own].log_softmax(0) for p in prompts
        )
        scores = free + guidance * (conditional - free)
        best = given[len(drawn)] if len(drawn) < len(given) else int(scores.argmax())
        drawn.append(best)
        prompts = [torch.cat([p, torch.tensor([[best + codes.start]])], 1) for p in prompts]
    return drawn


@pytest.mark.parametrize("guidance", [1.0, 0.0, 3.0])
def test_guided_samples_are_those_of_the_definition(make_prior, any_codec, guidance):
    prior = make_prior(any_codec)
    tokens = sample(prior, [0, 2, None], Sampling(guidance, top_k=1))
    found = [flat(any_codec, each) for each in tokens]
    assert found == [likeliest(prior, c, (2, 3), guidance) for c in (0, 2, None)]
    assert tokens.labels == [0, 2, None] and tokens.sizes == [(8, 12)] * 3
    assert tokens.codec == any_codec and tokens.classes == ("cat", "dog", "ox")


def test_guidance_makes_a_difference(make_prior):
    plain, guided = (
        sample(make_prior(), [0, 1, 2], Sampling(scale, top_k=1)) for scale in (1.0, 3.0)
    )
    assert plain.packed != guided.packed


def test_given_tokens_are_kept_and_the_rest_follows_from_them(make_prior, any_codec):
    prior = make_prior(any_codec)
    given = any_codec.in_sequence(draw_indices(any_codec, 2, (2, 3)))[:, :3]
    tokens = sample(prior, [1, 1], Sampling(2.0, top_k=1), grid=(2, 3), given=given)
    for own, found in zip(given, tokens, strict=True):
        start, drawn = own.flatten().tolist(), flat(any_codec, found)
        assert drawn[: len(start)] == start
        assert drawn == likeliest(prior, 1, (2, 3), 2.0, start)


def test_when_all_is_given_nothing_is_drawn(make_prior, any_codec):
    given = draw_indices(any_codec, 2, (2, 3))
    tokens = sample(make_prior(any_codec), [0, None], given=any_codec.in_sequence(given))
    assert np.array_equal(np.stack([*tokens]), given)


def test_indices_are_drawn_as_often_as_the_prior_says(make_prior):
    prior = make_prior(grids=((1, 1),))
    drawn = np.array([each.item() for each in sample(prior, [1] * 4000, Sampling(seed=3))])
    sequence = torch.from_numpy(prior.vocabulary.sequences(np.zeros((1, 1, 1), int), [1]))
    with torch.no_grad():
        expected = prior.network(input_ids=sequence[:, :2]).logits[0, -1, :7].softmax(0).numpy()
    counts = np.bincount(drawn, minlength=7)
    error = (counts - 4000 * expected) / np.sqrt(4000 * expected * (1 - expected) + 1)
    assert np.abs(error).max() < 4, (counts, expected)
    assert 0.05 < expected.max() < 0.95


def test_the_seed_decides_and_the_global_generator_stays(make_prior):
    prior = make_prior()
    before = torch.get_rng_state()
    first, again, other = (sample(prior, [0] * 9, Sampling(seed=s)) for s in (0, 0, 1))
    assert first.packed == again.packed != other.packed
    assert torch.equal(torch.get_rng_state(), before)
    longer = sample(prior, [0] * 12, Sampling(seed=0), batch_size=4)
    shorter = sample(prior, [0] * 8, Sampling(seed=0), batch_size=4)
    assert longer.packed.startswith(shorter.packed)


def test_mistakes_are_named(make_prior):
    prior, undropped = make_prior(), make_prior()
    undropped.config = replace(prior.config, drop_labels=0.0)
    for call, words in (
        (lambda: sample(prior, [3]), "label: expected one of cat, dog, ox; got 3"),
        (
            lambda: sample(prior, [None], Sampling(guidance=2)),
            "guidance: expected 1 where no class is given; got 2",
        ),
        (
            lambda: sample(undropped, [0], Sampling(guidance=2)),
            "trained with the label of every image; got 2. .* --prior.drop_labels",
        ),
        (lambda: sample(prior, [0], grid=(3, 3)), r"grid: .*got 3x3"),
        (lambda: sample(prior, [0], batch_size=0), "batch_size: expected 1 or more; got 0"),
        (lambda: Sampling(temperature=0), "temperature: expected above 0, to 100; got 0"),
        (lambda: Sampling(top_p=0), "top_p: expected above 0, to 1; got 0"),
        (lambda: Sampling(top_k=-1), "top_k: expected 0 or more; got -1"),
        (lambda: Sampling(guidance=float("nan")), "guidance: expected 0 to 100; got nan"),
        (lambda: Sampling(seed=-1), "seed: expected 0 to 2147483647; got -1"),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_classes_may_be_named(make_prior):
    named = sample(make_prior(), ["dog", "cat", None], Sampling(seed=3))
    assert named.labels == [1, 0, None]
    assert np.array_equal([*named], [*sample(make_prior(), [1, 0, None], Sampling(seed=3))])
    with pytest.raises(UserError, match="label: expected one of cat, dog, ox; got cow"):
        sample(make_prior(), ["cow"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            np.zeros((1, 2, 1)),
            r"\(3, tokens, 1\) with at most 6 tokens; got int64 of shape \(1, 2, 1\)",
        ),
        (np.zeros((3, 2)), r"of shape \(3, 2\)"),
        (np.zeros((3, 7, 1)), r"of shape \(3, 7, 1\)"),
        (np.zeros((3, 2, 2)), r"of shape \(3, 2, 2\)"),
        (np.full((3, 2, 1), -1), "got -1 to -1"),
        (np.full((3, 2, 1), 10**6), "got 1000000 to 1000000"),
    ],
)
def test_given_tokens_must_fit(make_prior, given, said):
    with pytest.raises(UserError, match=f"given: expected .*{said}"):
        sample(make_prior(), [0, 1, None], grid=(2, 3), given=given.astype(np.int64))


def test_given_tokens_may_be_any_integers_and_nothing_else(make_prior):
    prior, given = make_prior(), np.array([[[3], [1]]])
    expected = sample(prior, [0], grid=(2, 3), given=given)[0]
    for same in (given.tolist(), torch.from_numpy(given), given.astype(np.uint64)):
        assert np.array_equal(sample(prior, [0], grid=(2, 3), given=same)[0], expected)
    with pytest.raises(UserError, match=r"given: expected integers .* got float64"):
        sample(prior, [0], grid=(2, 3), given=given / 1)


def test_images_may_be_smaller_than_their_grid(make_prior):
    prior = make_prior()
    stride = prior.vocabulary.codec.stride
    size = (2 * stride - 1, 3 * stride)
    assert sample(prior, [0], grid=(2, 3), size=size).sizes == [size]
    with pytest.raises(UserError, match=r"expected 3x3 tokens for images of .*; got 2x3"):
        sample(prior, [0], grid=(2, 3), size=(2 * stride + 1, 3 * stride), step=lambda: 1 / 0)


def test_sampling_ends_when_asked_to(make_prior):
    class Enough(Exception):
        pass

    calls = []

    def step():
        calls.append(len(calls))
        if len(calls) == 4:
            raise Enough

    with pytest.raises(Enough):
        sample(make_prior(), [0] * 5, grid=[2, 3], step=step)
    assert len(calls) == 4
