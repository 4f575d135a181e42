"""What a prior draws for the page, compared with the prior itself."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from rotvq.errors import UserError
from rotvq.generation import Sampling, sample
from rotvq.generation.config import TransformerConfig
from rotvq.generation.prior import Prior
from rotvq.generation.vocabulary import Vocabulary
from rotvq.serving.drawing import Drawing
from rotvq.serving.pictures import SIDE
from rotvq.serving.session import Session
from rotvq.tokens.model_codec import codec


def test_new_pictures_are_those_of_sample(drawing):
    sampling = Sampling(temperature=0.8, guidance=1.5, seed=3)
    found = drawing.draw((3, 4), [0, 1, None], sampling)
    expected = sample(drawing.prior, [0, 1, None], sampling)
    assert found == [indices.flatten().tolist() for indices in expected]


def test_the_first_tokens_stay(drawing):
    given = [5, 29, 0, 7, 7]
    first, second = drawing.draw((3, 4), [None, None], Sampling(), given)
    assert first[:5] == second[:5] == given and first[5:] != second[5:]
    assert drawing.draw((3, 4), [1], Sampling(), [*range(12)]) == [[*range(12)]]


def test_mean_bits_are_the_likelihood(drawing, model):
    indices = torch.arange(12)
    sequence = drawing.prior.vocabulary.sequences(indices.view(1, 3, 4).numpy(), [None])
    with torch.no_grad():
        nats = drawing.prior(torch.from_numpy(sequence)).double().sum().item()
    found = Session(model, drawing=drawing).bits(12, 16, indices.tolist())
    assert found == pytest.approx(nats / np.log(2), rel=1e-5)


def test_grids_that_the_page_cannot_show_are_left_out(model):
    most = SIDE // model.stride
    for grids, left in (
        (((2, most + 1), (3, most)), [(3, most)]),
        (((most + 1, 1), (1, most + 1)), None),
    ):
        prior = Prior(
            Vocabulary(codec(model), grids), TransformerConfig(width=16, depth=1, heads=2)
        )
        if left:
            assert Drawing(prior).about["grids"] == left
        else:
            with pytest.raises(UserError, match=rf"--prior: .*{most}x{most} tokens.*rotvq sample"):
                Drawing(prior)


@pytest.mark.parametrize(
    "grid, labels, given, message",
    [
        ((2, 2), [None], [], r"grid: expected one .* \(3x4\); got 2x2"),
        ((3, 4), [2], [], "label: expected one of cat, dog; got 2"),
        ((3, 4), [], [], "labels: expected 1 to 16; got 0"),
        ((3, 4), [None] * 17, [], "labels: expected 1 to 16; got 17"),
        ((3, 4), [None], [30], "given: expected at most 12 indices, from 0 to 29"),
        ((3, 4), [None], [-1], "given: expected at most 12 indices, from 0 to 29"),
        ((3, 4), [None], [0] * 13, "given: expected at most 12 indices"),
    ],
)
def test_what_the_prior_does_not_know_is_refused(drawing, grid, labels, given, message):
    with pytest.raises(UserError, match=message):
        drawing.draw(grid, labels, Sampling(), given)
