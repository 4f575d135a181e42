"""Training from a saved model: its weights and configuration, other images, no need of it later."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import (
    EMA,
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)
from rotvq.training.build import build_model
from rotvq.training.interrupt import Stopped
from rotvq.training.starting_point import like, load
from rotvq.training.trainer import Trainer


@pytest.fixture
def finished(begin, tiny, data, tmp_path):
    """A run that was trained for an epoch."""
    trainer = begin(tiny(training={"epochs": 1}), data, tmp_path / "finished")
    trainer.run()
    return trainer


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def onwards(tiny, finished, make_data):
    """A configuration that begins from the finished run, and images of another size for it."""
    config = tiny(training={"epochs": 2, "seed": 3, "init_from": str(finished.folder)})
    return config, make_data(height=16, width=12, seed=5)


def test_a_run_starts_from_weights_and_codebook_and_records_them(
    onwards, finished, begin, tmp_path
):
    trainer = begin(*onwards, tmp_path / "new")
    assert same(trainer.model.state_dict(), finished.model.state_dict())
    assert trainer.model.quantizer.codebook.cluster_size.sum() > 0, "with its statistics"
    digest = hashlib.sha256((finished.folder / "model.safetensors").read_bytes()).hexdigest()
    record = json.loads((tmp_path / "new/run.json").read_text())["from"]
    assert record == {"model": str(finished.folder), "weights": f"sha256:{digest}"}


def test_a_run_with_averaged_weights_saves_the_weights_it_starts_from(
    onwards, finished, begin, tmp_path
):
    config, images = onwards
    trainer = begin(config.replace(training={"ema_decay": 0.9}), images, tmp_path / "new")
    assert same(load_file(tmp_path / "new/model.safetensors"), finished.model.state_dict())
    assert same(trainer.eval_model.state_dict(), finished.model.state_dict())


def test_a_codebook_loaded_with_the_model_is_not_placed_again(tiny, data, begin, tmp_path):
    options = {"init": "data", "restart": 0.03}
    first = begin(tiny(quantizer=options, training={"epochs": 1}), data, tmp_path / "first")
    first.run()
    config = tiny(quantizer=options, training={"epochs": 1, "init_from": str(first.folder)})
    again = begin(config, data, tmp_path / "again")
    assert again.model.quantizer.codebook.ready
    before = first.model.quantizer.codebook.embeddings.clone()
    again.run()
    moved = (again.model.quantizer.codebook.embeddings - before).norm() / before.norm()
    assert moved < 0.5


@pytest.mark.parametrize("moment", ["begun", "stopped"])
def test_a_run_resumes_without_the_model_it_started_from(
    onwards, finished, begin, resumed, outcome, tmp_path, moment, callback
):
    config, images = onwards
    begin(config, images, tmp_path / "whole").run()
    trainer = begin(config, images, tmp_path / "cut")
    shutil.rmtree(finished.folder)
    if moment == "stopped":
        with pytest.raises(Stopped, match="everything is saved"):
            trainer.run([callback(on_epoch_end=lambda record: signal.raise_signal(signal.SIGINT))])
    trainer.lock.release()
    resumed(config, images, tmp_path / "cut").run()
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_before_its_first_checkpoint_a_resumed_run_loads_the_model_again(
    onwards, finished, begin, resumed, tmp_path
):
    config, images = onwards
    begin(config, images, tmp_path / "new").lock.release()
    (tmp_path / "new/checkpoint.pt").unlink()
    trainer = resumed(config, images, tmp_path / "new")
    assert same(trainer.model.state_dict(), finished.model.state_dict())
    trainer.lock.release()
    shutil.rmtree(finished.folder)
    with pytest.raises(UserError, match="expected the folder of a saved model"):
        resumed(config, images, tmp_path / "new")


MISFITS = {
    "model.width": {"model": {"width": 16}},
    "model.dim": {"model": {"dim": 4}},
    "model.depth": {"model": {"depth": 2}},
    "model.stages": {"model": {"stages": 1}},
    "model.network": {"model": {"network": "patches"}},
    "model.normalized_latents": {"model": {"normalized_latents": True}},
    "quantizer.codebook_size": {"quantizer": {"codebook_size": 8}},
    "quantizer.levels": {"quantizer": {"levels": "4,4"}},
    "quantizer.update": {"quantizer": {"update": "linear"}},
    "quantizer.residual": {"quantizer": {"residual": 2}},
    "quantizer.groups": {"quantizer": {"groups": 2}},
}


@pytest.mark.parametrize("name", sorted(MISFITS))
def test_a_configuration_that_does_not_fit_is_refused_and_replaces_nothing(
    name, onwards, finished, tmp_path
):
    config, images = onwards
    config = config.replace(**MISFITS[name])
    if name == "quantizer.levels":
        config = config.replace(model={"dim": 2})
    before = {path.name: path.read_bytes() for path in finished.folder.glob("*.*")}
    with pytest.raises(UserError, match=rf"^--from .*finished: expected .*; got .*{name}: "):
        Trainer(config, images, finished.folder).begin(overwrite=True)
    assert {path.name: path.read_bytes() for path in finished.folder.glob("*.*")} == before


@pytest.mark.parametrize(
    "changed",
    [{"estimator": "straight_through"}, {"update": "gradient"}, {"decay": 0.9, "restart": 0.03}],
)
def test_options_that_do_not_affect_the_weights_may_change(
    changed, onwards, begin, finished, tmp_path
):
    config, images = onwards
    trainer = begin(config.replace(quantizer=changed), images, tmp_path / "new")
    ours, theirs = trainer.model.state_dict(), finished.model.state_dict()
    assert same(ours, theirs)


@pytest.mark.parametrize("updates", [("ema", "gradient"), ("gradient", "ema")])
def test_cosine_codes_that_were_averages_may_be_learned_and_the_reverse(
    updates, tiny, data, begin, tmp_path
):
    before, after = ({"metric": "cosine", "update": update} for update in updates)
    first = begin(tiny(quantizer=before, training={"epochs": 1}), data, tmp_path / "first")
    first.run()
    start = {"epochs": 1, "init_from": str(tmp_path / "first")}
    second = begin(tiny(quantizer=after, training=start), data, tmp_path / "second")
    ours, theirs = (each.model.quantizer.codebook.embeddings for each in (second, first))
    torch.testing.assert_close(ours, theirs)
    second.run()


def vector(dim):
    return VectorQuantizer(24, dim, channel_dim=1)


QUANTIZERS = {
    "vector": lambda: VectorQuantizer(
        24, 8, estimator="rescaling", update=EMA(0.8), restart=Restart(0.1), channel_dim=1
    ),
    "cosine": lambda: VectorQuantizer(24, 8, metric="cosine", channel_dim=1),
    "lookup-free": lambda: LookupFreeQuantizer(8, channel_dim=1),
    "spherical": lambda: GroupedQuantizer(
        [BinarySphericalQuantizer(4, channel_dim=1) for _ in range(2)]
    ),
    "finite scalar": lambda: FiniteScalarQuantizer([4, 3, 2], channel_dim=1),
    "residual": lambda: ResidualQuantizer([vector(8) for _ in range(2)], dropout=0.5),
    "multi-scale": lambda: MultiScaleQuantizer(vector(8), (1, 2), dropout=0.5),
    "grouped": lambda: GroupedQuantizer(
        [ResidualQuantizer([vector(4) for _ in range(3)]) for _ in range(2)]
    ),
}


def test_different_quantizers_in_a_residual_one_are_refused(tiny, tmp_path):
    levels = [VectorQuantizer(size, 8, channel_dim=1) for size in (24, 12)]
    VQVAE(width=4, dim=8, quantizer=ResidualQuantizer(levels)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected equal quantizers in a residual one"):
        like(tiny(), str(tmp_path))


@pytest.mark.parametrize("kind", sorted(QUANTIZERS))
def test_a_saved_model_gives_its_configuration(kind, tiny, tmp_path):
    quantizer = QUANTIZERS[kind]()
    model = VQVAE(
        width=4, dim=quantizer.dim, depth=0, stages=1, quantizer=quantizer,
        network="patches", normalized_latents=True,
    )  # fmt: skip
    model.save_pretrained(tmp_path / "saved")
    config = like(tiny(), str(tmp_path / "saved"))
    assert (config.data, config.training) == (tiny().data, tiny().training)
    assert config.model.network == "patches"
    if kind == "vector":
        assert config.quantizer.restart == 0.1
    start = load(str(tmp_path / "saved"), config)
    built = build_model(config)
    built.load_state_dict(start.weights)
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(built.eval().encode(x), model.eval().encode(x))


def test_the_decay_is_that_of_the_end_of_the_training(tiny, data, begin, tmp_path):
    config = tiny(quantizer={"decay": 0.5, "final_decay": 0.9}, training={"epochs": 1})
    begin(config, data, tmp_path / "run").run()
    assert like(config, str(tmp_path / "run")).quantizer.decay == 0.9
