"""The presets: the paper's is the paper's."""

from __future__ import annotations

import pytest

from rotvq.training.config import Config
from rotvq.training.presets import PRESETS


def test_the_paper_preset_has_the_papers_settings():
    paper = PRESETS["paper"]
    assert paper.data.source == "cifar10"
    assert (paper.data.size, paper.data.train_images, paper.data.test_images) == (None, None, None)
    assert vars(paper.model) == {
        "channels": 3, "width": 256, "dim": 256, "depth": 2, "stages": 2, "network": "paper",
        "normalized_latents": False,
    }  # fmt: skip
    assert vars(paper.quantizer) == {
        "codebook_size": 1024,
        "estimator": "rotation",
        "update": "ema",
        "decay": 0.99,
        "final_decay": None,
        "init": "uniform",
        "restart": 0.0,
        "levels": None,
        "residual": 1,
        "scales": None,
        "dropout": 0.0,
        "groups": 1,
        "metric": "euclidean",
        "codes": "learned",
    }
    training = paper.training
    assert (training.epochs, training.batch_size) == (100, 128)
    assert (training.learning_rate, training.beta) == (2e-4, 0.25)
    assert training.schedule == "constant"
    assert training.ema_decay == 0.0
    assert (training.entropy_weight, training.gradient_clip) == (0.0, 0.0)


def test_the_defaults_are_the_papers_except_for_the_data():
    paper, default = PRESETS["paper"], Config()
    assert (default.model, default.quantizer) == (paper.model, paper.quantizer)
    assert default.training == paper.training
    assert default.data.source == "embedded:photos"


@pytest.mark.parametrize("name", ["smoke", "demo", "cpu"])
def test_smaller_presets_keep_the_papers_method(name):
    ours, paper = PRESETS[name], PRESETS["paper"]
    for field in ("estimator", "update", "decay", "final_decay", "init", "restart", "levels"):
        assert getattr(ours.quantizer, field) == getattr(paper.quantizer, field)
    assert ours.training.beta == paper.training.beta
    assert ours.model.stages == paper.model.stages
    assert ours.training.epochs < paper.training.epochs


@pytest.mark.parametrize("name", ["smoke", "demo"])
def test_the_small_presets_need_no_download(name):
    assert PRESETS[name].data.source == "embedded:photos"
