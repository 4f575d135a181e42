"""From a configuration to a model, new or trained."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from rotvq.errors import UserError
from rotvq.quantization import (
    EMA,
    ESTIMATORS,
    BinarySphericalQuantizer,
    GradientLearned,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    Restart,
)
from rotvq.training.build import build_model, load_model
from rotvq.training.checkpoint import save_weights
from rotvq.training.config import Config, ModelConfig, QuantizerConfig, TrainingConfig
from rotvq.training.folder import prepare
from rotvq.training.presets import PRESETS


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_estimator_is_built(tiny, name):
    assert build_model(tiny(quantizer={"estimator": name})).quantizer.estimator == ESTIMATORS[name]


def test_the_quantizer_gets_its_options(tiny):
    options = {"update": "ema", "decay": 0.9, "init": "data", "restart": 0.1, "codebook_size": 5}
    quantizer = build_model(tiny(quantizer=options)).quantizer
    assert quantizer.codebook.embeddings.shape == (5, 8)
    assert quantizer.codebook.update == EMA(0.9)
    assert quantizer.codebook.restart == Restart(0.1)
    assert not quantizer.codebook.ready
    assert quantizer.channel_dim == 1
    assert not quantizer.defer_update  # that is the trainer's affair
    plain = build_model(tiny(quantizer={"update": "gradient", "decay": 0.8})).quantizer.codebook
    assert plain.update == GradientLearned(0.8)
    assert plain.restart is None
    assert plain.ready


def test_the_model_gets_its_options(tiny):
    options = {"channels": 1, "width": 6, "dim": 4, "depth": 3, "stages": 3}
    model = build_model(tiny(model=options))
    assert model.encode(torch.zeros(1, 1, 16, 24)).shape == (1, 2, 3)
    assert model.encoder[0].weight.shape[1] == 1
    blocks = [m for m in model.encoder.modules() if type(m).__name__ == "ResidualBlock"]
    assert len(blocks) == 3
    assert model.quantizer.codebook.embeddings.shape[1] == 4


def test_the_papers_codes_start_uniform():
    torch.manual_seed(0)
    e = build_model(PRESETS["paper"]).quantizer.codebook.embeddings
    assert e.shape == (1024, 256)
    assert e.abs().max() <= 1 / 1024
    assert e.std().item() == pytest.approx(1 / 1024 / 3**0.5, rel=0.01)


def test_weights_come_from_the_global_generator(tiny):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(tiny()).state_dict()["encoder.0.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def saved(folder, config):
    prepare(folder, config)
    model = build_model(config)
    save_weights(folder / "model.safetensors", model)
    return model


def test_a_saved_model_loads_in_evaluation_mode(tmp_path, tiny):
    model = saved(tmp_path, tiny(quantizer={"update": "gradient"}))
    loaded = load_model(tmp_path)
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())


def test_missing_weights_are_reported(tmp_path, tiny):
    prepare(tmp_path, tiny())
    with pytest.raises(UserError, match=r"rotvq train --out .* --resume") as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected a run folder; found no"):
        load_model(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "missing", "shape"])
def test_damaged_weights_are_refused_in_one_line(tmp_path, tiny, damage):
    model = saved(tmp_path, tiny())
    path = tmp_path / "model.safetensors"
    content, state = path.read_bytes(), dict(model.state_dict())
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "garbage":
        path.write_bytes(b"\xff" * 1000)
    elif damage == "missing":
        del state["encoder.0.weight"]
        save_file(state, path)
    else:
        save_file({**state, "encoder.0.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [("lookup_free", LookupFreeQuantizer), ("spherical", BinarySphericalQuantizer)],
)
def test_binary_codes_have_a_bit_for_each_channel(codes, kind):
    config = Config(
        model=ModelConfig(width=8, dim=6, depth=1),
        quantizer=QuantizerConfig(codebook_size=8, codes=codes, groups=2),
        training=TrainingConfig(entropy_weight=0.1),
    )
    model = build_model(config)
    first, second = model.quantizer.quantizers
    assert type(first) is type(second) is kind and first.dim == 3 and first.entropy_loss
    assert model.quantizer.codebook_sizes == (8, 8)
    with pytest.raises(UserError, match=r"codebook_size: expected 2\*\*6, because binary codes"):
        build_model(config.replace(quantizer={"groups": 1}))


def test_cosine_codes():
    config = Config(
        model=ModelConfig(width=8, dim=6, depth=1), quantizer=QuantizerConfig(metric="cosine")
    )
    assert build_model(config).quantizer.codebook.metric == "cosine"


def test_levels_make_a_finite_scalar_quantizer_of_as_many_channels():
    config = Config(
        model=ModelConfig(width=8, dim=2, depth=0),
        quantizer=QuantizerConfig(codebook_size=20, levels="5,4"),
    )
    model = build_model(config)
    assert model.quantizer.levels == (5, 4) and len(model.quantizer.codebook) == 20
    with pytest.raises(UserError, match=r"model\.dim: expected 2, .* got 3"):
        build_model(config.replace(model={"dim": 3}))


@pytest.mark.parametrize(
    ("options", "index_shape", "dims"),
    [
        ({"residual": 3}, (3,), [8] * 3),
        ({"groups": 2}, (2,), [4] * 2),
        ({"residual": 3, "groups": 2}, (2, 3), [4] * 6),
    ],
)
def test_residual_and_grouped_quantizers_are_built(tiny, options, index_shape, dims):
    quantizer = build_model(tiny(quantizer=options)).quantizer
    assert quantizer.index_shape == index_shape
    assert quantizer.codebook_sizes == (16,) * len(dims)
    assert [codebook.embeddings.shape[1] for codebook in quantizer.codebooks] == dims


def test_groups_of_finite_scalar_quantization_are_built(tiny):
    options = {"levels": "5,4", "codebook_size": 20, "groups": 4}
    assert build_model(tiny(quantizer=options)).quantizer.codebook_sizes == (20,) * 4


def test_groups_must_divide_the_channels(tiny):
    with pytest.raises(UserError, match=r"model\.dim: expected a multiple of quantizer\.groups 3"):
        build_model(tiny(quantizer={"groups": 3}))


def test_scales_are_built(tiny):
    config = tiny(quantizer={"scales": "1,2, 4", "dropout": 0.5})
    quantizer = build_model(config).quantizer
    assert isinstance(quantizer, MultiScaleQuantizer)
    assert (quantizer.scales, quantizer.dropout) == ((1, 2, 4), 0.5)
    assert quantizer.codebook_sizes == (config.quantizer.codebook_size,) * 3


@pytest.mark.parametrize("scales", ["8", "4,2", "2,2", "0,2", "1,-2", "1,x", "", "1,2,", "1,2,3"])
def test_scales_that_are_no_multiples_are_refused(scales):
    with pytest.raises(UserError, match=r"scales: expected 2 to 64 increasing integers"):
        QuantizerConfig(scales=scales)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"residual": 2}, r"residual: expected 1 with scales"),
        ({"groups": 2}, r"groups: expected 1 with scales"),
        ({"metric": "cosine"}, r"scales: expected null with levels, binary codes, the cosine"),
        ({"estimator": "reflection"}, r"scales: expected null with .* or the reflection"),
        ({"codes": "spherical"}, r"scales: expected null with levels, binary codes"),
    ],
)
def test_what_scales_do_not_go_with_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        QuantizerConfig(scales="1,2", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": "5,4", "codebook_size": 20},
        {"codes": "lookup_free"},
        {"estimator": "reflection"},
    ],
)
def test_residual_quantizers_need_codes_that_adapt(options):
    with pytest.raises(UserError, match=r"quantizer\.residual: expected 1 with levels, binar"):
        QuantizerConfig(residual=2, **options)
