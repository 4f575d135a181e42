"""The likelihood beside one computed from the whole network, and what is saved."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_tokens import draw_indices

from rotvq.errors import UserError
from rotvq.generation.prior import Prior


def sequences_of(prior, grid, n=4):
    vocabulary = prior.vocabulary
    indices = draw_indices(vocabulary.codec, n, grid)
    return torch.from_numpy(vocabulary.sequences(indices, [0, 1, 2, None][:n]))


@torch.no_grad()
def log_likelihood(prior, sequence):
    """Of one sequence without padding, index by index, in float64."""
    found = []
    for place in range(2, len(sequence)):
        logits = prior.network(input_ids=sequence[None, :place]).logits[0, -1].double()
        codes = prior.vocabulary.codes[(place - 2) % len(prior.vocabulary.codes)]
        own = logits[codes.start : codes.stop]
        found.append(own[sequence[place] - codes.start] - own.logsumexp(0))
    return torch.stack(found)


def test_the_likelihood_is_that_of_each_index_given_those_before(make_prior, any_codec):
    prior = make_prior(any_codec)
    sequences = sequences_of(prior, (2, 3))
    with torch.no_grad():
        found = -prior(sequences).double()
    expected = torch.stack([log_likelihood(prior, each) for each in sequences])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_padding_costs_nothing_and_changes_nothing(make_prior, any_codec):
    prior = make_prior(any_codec)
    sequences = sequences_of(prior, (1, 2))
    padded = torch.nn.functional.pad(sequences, (0, 5), value=-1)
    with torch.no_grad():
        plain, found = prior(sequences), prior(padded)
    assert not found[:, plain.shape[1] :].any()
    torch.testing.assert_close(found[:, : plain.shape[1]], plain)


def test_a_saved_prior_predicts_the_same(make_prior, tmp_path):
    prior = make_prior()
    prior.save_pretrained(tmp_path / "prior")
    loaded = Prior.from_pretrained(tmp_path / "prior")
    assert loaded.vocabulary == prior.vocabulary and not loaded.training
    sequences = sequences_of(prior, (2, 3))
    with torch.no_grad():
        assert torch.equal(loaded(sequences), prior(sequences))


def damage(folder, change):
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(format="rotvq model"), r'"format": "rotvq prior"; got \'rotvq model\''),
        (lambda c: c.update(version=9), "expected version 1 of the format; got 9"),
        (lambda c: c["prior"].update(width=2**40), "prior.width: expected 1 to 16,384"),
        (lambda c: c["prior"].update(depth=10**9), "prior.depth: expected 1 to 1,000"),
        (lambda c: c["vocabulary"].update(grids=[]), "its grids are empty"),
        (lambda c: c["vocabulary"].pop("codec"), "damaged"),
        (lambda c: c["vocabulary"]["codec"].update(codebook_sizes=[2**40]), "weights"),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(make_prior, tmp_path, change, words):
    make_prior().save_pretrained(tmp_path)
    damage(tmp_path, change)
    with pytest.raises(UserError, match=words) as error:
        Prior.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_of_another_prior_are_refused(make_prior, tmp_path):
    make_prior().save_pretrained(tmp_path / "a")
    make_prior(classes=("cat",)).save_pretrained(tmp_path / "b")
    shutil.copy(tmp_path / "b/model.safetensors", tmp_path / "a")
    with pytest.raises(UserError, match="size mismatch"):
        Prior.from_pretrained(tmp_path / "a")


def test_a_folder_without_a_prior_is_named(tmp_path):
    with pytest.raises(UserError, match=r"expected the folder of a prior; found no config\.json"):
        Prior.from_pretrained(tmp_path)


def test_sequences_of_small_integers_are_read_as_they_are_stored(make_prior):
    prior = make_prior()
    sequences = prior.vocabulary.sequences(np.zeros((2, 2, 3), np.int64), [0, None])
    with torch.no_grad():
        found = [prior(torch.from_numpy(sequences.astype(kind))) for kind in (np.int32, np.int64)]
    assert torch.equal(*found)
