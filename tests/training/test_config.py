"""The configuration: what it refuses, and the differences between two."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from rotvq.errors import UserError
from rotvq.training.config import (
    GROUPS,
    Config,
    DataConfig,
    ModelConfig,
    QuantizerConfig,
    TrainingConfig,
    differing,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (DataConfig, "data.size", [0, 3, "a", "8x3", "8x8x8"]),
        (DataConfig, "data.train_images", [0, -5]),
        (DataConfig, "data.test_images", [0]),
        (ModelConfig, "model.width", [0]),
        (ModelConfig, "model.dim", [0, -8]),
        (ModelConfig, "model.stages", [0]),
        (ModelConfig, "model.depth", [-1]),
        (QuantizerConfig, "quantizer.codebook_size", [0, -1]),
        (QuantizerConfig, "quantizer.decay", [-0.01, 1.0, 2.0, NAN]),
        (DataConfig, "data.validation", [-1]),
        (QuantizerConfig, "quantizer.final_decay", [-0.01, 1.0, NAN]),
        (QuantizerConfig, "quantizer.residual", [0, -1, 65]),
        (QuantizerConfig, "quantizer.dropout", [-0.1, 0.5, 1.1, NAN]),  # 0.5 without levels
        (QuantizerConfig, "quantizer.groups", [0, 65]),
        (QuantizerConfig, "quantizer.restart", [-0.1, 1 / 3, 0.5, NAN]),
        (TrainingConfig, "training.epochs", [0]),
        (TrainingConfig, "training.batch_size", [0, -8]),
        (TrainingConfig, "training.checkpoint_every", [0]),
        (TrainingConfig, "training.micro_batch_size", [0, -2, 3, 256]),
        (TrainingConfig, "training.learning_rate", [0.0, -1e-3, float("inf"), NAN]),
        (TrainingConfig, "training.beta", [-0.1, float("inf"), NAN]),
        (TrainingConfig, "training.entropy_weight", [-0.1, float("inf"), NAN]),
        (TrainingConfig, "training.adversarial_weight", [-0.1, float("inf"), NAN]),
        (TrainingConfig, "training.adversarial_start", [-0.1, 1.0, NAN]),
        (TrainingConfig, "training.gradient_clip", [-0.1, float("inf"), NAN]),
        (TrainingConfig, "training.ema_decay", [-0.1, 1.0, NAN]),
        (TrainingConfig, "training.seed", [-1, 2**31]),
    ],
)
def test_values_out_of_range_are_refused_by_name(kind, name, values):
    for value in values:
        with pytest.raises(UserError, match=rf"^{name}: expected .*; got .*{value}\.$") as error:
            kind(**{name.split(".")[1]: value})
        assert "\n" not in str(error.value)


def test_a_perceptual_loss_needs_a_network():
    with pytest.raises(UserError, match=r"^training\.perceptual: expected a classifier's folder"):
        TrainingConfig(perceptual_weight=0.1)
    assert TrainingConfig(perceptual="folder").perceptual_weight == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataConfig(size=4, train_images=1, test_images=1),
        lambda: ModelConfig(channels=1, width=1, dim=1, depth=0, stages=1),
        lambda: QuantizerConfig(codebook_size=1, decay=0.0, restart=0.33),
        lambda: TrainingConfig(
            epochs=1, batch_size=1, micro_batch_size=1, beta=0.0, seed=2**31 - 1
        ),
        lambda: TrainingConfig(batch_size=128, micro_batch_size=32),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(make):
    make()


def test_groups_are_the_fields_of_a_configuration():
    assert {name: kind() for name, kind in GROUPS.items()} == vars(Config())


def test_a_configuration_round_trips_through_a_dict():
    config = Config(data=DataConfig(source="somewhere", size=16), quantizer=QuantizerConfig(64))
    values = asdict(config)
    assert Config.from_dict(values) == config


def test_a_configuration_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Config().training.epochs = 3  # type: ignore[misc]


def test_differing_names_fields_and_values():
    a = Config()
    b = replace(
        a, model=replace(a.model, width=8), training=replace(a.training, epochs=7, beta=0.5)
    )
    assert differing(a, a) == []
    assert differing(a, b) == [
        "model.width: 256 → 8",
        "training.epochs: 100 → 7",
        "training.beta: 0.25 → 0.5",
    ]
    assert differing(a, replace(a, data=DataConfig(size=32))) == ["data.size: None → 32"]


def test_the_configuration_does_not_need_torch():
    code = (
        "import sys, rotvq.training.config, rotvq.training.presets, rotvq.training.folder\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"levels": "8,5", "codebook_size": 39}, "codebook_size: expected the product"),
        ({"levels": "8,1", "codebook_size": 8}, "levels: expected integers of 2 or more"),
        ({"levels": "", "codebook_size": 8}, "levels: expected integers of 2 or more"),
        ({"levels": "8;5", "codebook_size": 40}, "levels: expected integers of 2 or more"),
        ({"codes": "spherical", "codebook_size": 40}, "codebook_size: expected 2 to the power"),
        ({"codes": "spherical", "levels": "4,4"}, "levels: expected null with binary codes"),
        ({"codes": "signs"}, "codes: expected learned or lookup_free or spherical; got 'signs'"),
        ({"metric": "angular"}, "metric: expected euclidean or cosine; got 'angular'"),
    ],
)
def test_levels_must_make_the_codebook(values, named):
    with pytest.raises(UserError, match=named):
        QuantizerConfig(**values)
    assert QuantizerConfig(levels="8, 5", codebook_size=40).levels == "8, 5"
