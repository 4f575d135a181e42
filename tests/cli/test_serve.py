"""The models that are served, their names, and the prior of one of them."""

import pytest
import torch

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from rotvq.cli.serve import _named, _sessions
from rotvq.errors import UserError
from rotvq.generation import Prior, Vocabulary
from rotvq.generation.config import TransformerConfig
from rotvq.model import VQVAE
from rotvq.quantization import FiniteScalarQuantizer
from rotvq.tokens.model_codec import codec


def model(seed):
    torch.manual_seed(seed)
    quantizer = FiniteScalarQuantizer([3, 3], channel_dim=1)
    return VQVAE(width=8, dim=2, depth=1, stages=1, quantizer=quantizer)


@pytest.fixture
def runs(tmp_path):
    """A model, and the run of a prior over its tokens with the model beside it."""
    model(1).save_pretrained(tmp_path / "model")
    prior = tmp_path / "prior"
    vocabulary = Vocabulary(codec(model(0)), ((2, 2),))
    Prior(vocabulary, TransformerConfig(width=8, depth=1, heads=1)).save_pretrained(prior)
    model(0).save_pretrained(prior / "tokenizer")
    return tmp_path


def test_models_are_named_by_the_end_of_their_path():
    assert [name for _, name in _named(["runs/a", "b"])] == ["a", "b"]
    assert [name for _, name in _named(["x/a", "y/a", "."])] == ["x/a", "y/a", "."]
    assert [name for _, name in _named(["runs/prior/tokenizer"])] == ["prior/tokenizer"]


def test_the_prior_belongs_to_the_model_of_its_tokens(runs):
    paths = [str(runs / "model"), str(runs / "prior/tokenizer")]
    without, with_prior = _sessions(paths, runs / "prior")
    assert without.drawing is None and with_prior.about["prior"]["grids"] == [(2, 2)]
    (alone,) = _sessions([], runs / "prior")
    assert alone.drawing is not None and alone.name == "prior/tokenizer"


def test_a_prior_of_no_served_model_is_refused(runs):
    own = codec(model(0)).model
    with pytest.raises(UserError, match=f"of model {own}. Serve .*tokenizer too"):
        _sessions([str(runs / "model")], runs / "prior")
    with pytest.raises(UserError, match="expected the folder of a prior"):
        _sessions([], runs / "missing")
