"""Stopping and resuming: a run ends as if nobody had touched it, bit for bit."""

from __future__ import annotations

import json
import signal
from itertools import product

import numpy as np
import pytest
import torch

from rotvq import run_folder
from rotvq.data_processing import ImageData, ImageSplit
from rotvq.errors import UserError
from rotvq.training import checkpoint, environment, trainer
from rotvq.training.folder import read_config
from rotvq.training.interrupt import Stopped
from rotvq.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("read_every_step")

LIVELY = {"restart": 0.3, "init": "data", "decay": 0.5}
MOVING = {"ema_decay": 0.9, "schedule": "cosine", "entropy_weight": 0.01, "gradient_clip": 0.1}


@pytest.mark.parametrize(
    "quantizer", [{}, LIVELY, {"update": "gradient"}, {"residual": 2, "dropout": 0.5}]
)
@pytest.mark.parametrize(
    "moment", [{"images": 8}, {"images": 64}, {"images": 80}, {"epoch": 1}, {"epoch": 2}]
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, quantizer, moment, interrupt_at
):
    config = tiny(quantizer=quantizer)
    with pytest.raises(Stopped) as stopped:
        begin(config, data, tmp_path / "parts").run(interrupt_at(**moment))
    assert stopped.value.number == signal.SIGINT
    assert not (tmp_path / "parts/evaluation.json").exists()
    # The state must come from the folder, not from global generators.
    torch.manual_seed(12345)
    np.random.seed(12345)
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


@pytest.mark.parametrize(
    ("quantizer", "training"),
    [
        *product(
            [LIVELY | {"final_decay": 0.9}, {"update": "linear"}],
            [{}, MOVING, {"optimizer": "muon"}],
        ),
        ({"update": "gradient"}, {"effort": 1}),
    ],
)
def test_a_run_can_be_stopped_after_every_step(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, quantizer, training, interrupt_at
):
    config = tiny(quantizer=quantizer, training={"epochs": 2, **training})
    trainer, stops = begin(config, data, tmp_path / "parts"), 0
    for seen in range(8, 80, 8):
        with pytest.raises(Stopped):
            trainer.run(interrupt_at(images=seen, number=signal.SIGTERM))
        assert (trainer.position.images, trainer.position.epoch) == (seen, seen // 40)
        trainer, stops = resumed(config, data, tmp_path / "parts"), stops + 1
    trainer.run()
    assert stops == 9
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def test_a_signal_at_the_very_end_does_not_lose_the_evaluation(
    tmp_path, data, tiny, begin, interrupt_at
):
    config = tiny(training={"epochs": 1})
    with pytest.raises(Stopped, match="finished"):
        begin(config, data, tmp_path / "run").run(interrupt_at(epoch=1))
    record = begin(config, data, tmp_path / "undisturbed").run()
    written = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert written["metrics"].pop("ssim") is None, "nan, as JSON has no nan"
    del record["metrics"]["ssim"]
    assert {**written, "seconds": 0} == {**record, "seconds": 0}


def test_signal_handlers_are_restored_after_a_run(tmp_path, data, tiny, begin, interrupt_at):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        begin(tiny(), data, tmp_path / "run").run(interrupt_at(images=16))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def crash_once(monkeypatch, module, name, call):
    """Let the call-th call of module.name fail as a lost machine would."""
    original, calls = getattr(module, name), []

    def failing(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise SystemError("lost")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (checkpoint, "save"),
        (checkpoint, "save_weights"),
        (run_folder, "write_epochs"),
        (trainer, "save_reconstructions"),
    ],
)
def test_a_crash_between_any_two_writes_costs_nothing(
    monkeypatch, tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, module, name, epoch
):
    config = tiny(quantizer={"restart": 0.3})
    with monkeypatch.context() as patch:
        crash_once(patch, module, name, epoch)
        with pytest.raises(SystemError, match="lost"):
            begin(config, data, tmp_path / "parts").run()
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def test_not_every_epoch_needs_a_checkpoint(
    monkeypatch, tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, callback
):
    config = tiny(training={"checkpoint_every": 2})
    begun = begin(config, data, tmp_path / "parts")
    with pytest.raises(SystemError, match="lost"):
        begun.run([callback(on_epoch_end=lambda record: crash_after(record, 1))])
    assert not (tmp_path / "parts/checkpoint.pt").exists()
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def crash_after(record, epoch):
    if record["epoch"] == epoch:
        raise SystemError("lost")


def test_more_epochs_continue_a_finished_run(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted
):
    long = tiny(training={"epochs": 3})
    begin(tiny(training={"epochs": 1}), data, tmp_path / "parts").run()
    resumed(long, data, tmp_path / "parts").run()
    ours = outcome(tmp_path / "parts")
    assert {**ours, "config": None} == {**uninterrupted(long), "config": None}


def test_another_configuration_is_refused_on_resume(tmp_path, data, tiny, begin):
    begin(tiny(), data, tmp_path).lock.release()
    before = (tmp_path / "config.yaml").read_bytes()
    for other in ({"seed": 1}, {"learning_rate": 0.5}, {"gradient_clip": 0.5}):
        (name,) = other
        with pytest.raises(
            UserError, match=rf"training\.{name}: .*Only training\.epochs can change"
        ):
            Trainer(tiny(training=other), data, tmp_path).resume()
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_the_data_of_a_run_may_have_moved(tmp_path, data, tiny, begin, resumed):
    begin(tiny(data={"source": "here"}), data, tmp_path).lock.release()
    resumed(tiny(data={"source": "there"}), data, tmp_path)
    assert read_config(tmp_path).data.source == "there"


@pytest.mark.parametrize("others", [{}, {"config.json": "{}", "notes.txt": "mine"}])
def test_a_folder_without_a_run_is_left_as_it_is(tmp_path, data, tiny, others):
    folder = tmp_path / "folder"
    if others:
        folder.mkdir()
    for name, content in others.items():
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=r"expected a run folder; found no config\.yaml"):
        Trainer(tiny(), data, folder).resume()
    assert {p.name: p.read_text() for p in folder.glob("*")} == others


def test_other_images_are_refused_on_resume(tmp_path, make_data, tiny, begin, resumed):
    begin(tiny(training={"epochs": 1}), make_data(), tmp_path / "run").run()
    before = (tmp_path / "run/run.json").read_bytes()
    good = make_data()
    bad = good.test.images.copy()
    bad[0, 0, 0, 0] ^= 1
    for other, split in (
        (ImageData("smooth", good.train, ImageSplit(bad)), "test"),
        (make_data(train=41), "train"),
    ):
        with pytest.raises(UserError, match=f"expected the run's own {split} images"):
            resumed(tiny(training={"epochs": 1}), other, tmp_path / "run")
    assert (tmp_path / "run/run.json").read_bytes() == before


def test_resume_without_a_checkpoint_starts_from_the_beginning(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted
):
    config = tiny()
    begin(tiny(), data, tmp_path / "parts")
    resumed(tiny(), data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def test_another_precision_is_refused_on_resume(tmp_path, data, tiny, begin, monkeypatch):
    begin(tiny(training={"epochs": 1, "precision": "auto"}), data, tmp_path / "run").run()
    ours = environment.resolve_precision("auto", torch.device("cpu"))
    other = {"fp32": "bf16", "bf16": "fp32"}[ours]
    monkeypatch.setattr(environment, "resolve_precision", lambda *arguments: other)
    trainer = Trainer(tiny(training={"epochs": 1}), data, tmp_path / "run")
    with pytest.raises(UserError, match=f"own precision {ours}; got {other}"):
        trainer.resume()


def test_temporary_files_of_a_killed_process_are_removed(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted
):
    config = tiny()
    begin(config, data, tmp_path / "parts")
    (tmp_path / "parts/.rotvq-0123456789abcdef.part").write_bytes(b"half")
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


@pytest.mark.parametrize(("done", "step", "allowed"), [(2, 0, 2), (2, 1, 3), (3, 0, 3)])
def test_a_run_cannot_be_shortened_to_fewer_epochs_than_it_has_started(
    tmp_path, data, tiny, begin, done, step, allowed, interrupt_at
):
    """Otherwise the configuration would be one that the weights were never trained with."""
    folder = tmp_path / "run"
    trainer = begin(tiny(training={"epochs": 4}), data, folder)
    with pytest.raises(Stopped, match="saved"):
        images = 8 * (done * trainer.steps + step)
        trainer.run(interrupt_at(images=images) if step else interrupt_at(epoch=done))
    for epochs in range(1, allowed):
        config = (folder / "config.yaml").read_bytes()
        with pytest.raises(UserError, match=f"expected {allowed} or more.* got {epochs}") as error:
            Trainer(tiny(training={"epochs": epochs}), data, folder).resume()
        assert "\n" not in str(error.value)
        assert (folder / "config.yaml").read_bytes() == config
    for epochs in range(allowed, 6):
        Trainer(tiny(training={"epochs": epochs}), data, folder).resume()
        assert read_config(folder).training.epochs == epochs


def test_more_epochs_remove_what_was_measured_of_the_weights_before(
    tmp_path, data, tiny, begin, resumed
):
    folder = tmp_path / "run"
    begin(tiny(training={"epochs": 1}), data, folder).run()
    stale = [
        folder / name
        for name in ("evaluation-effort-4.json", "evaluation-train.json", run_folder.searched(4))
    ]
    for path in stale:
        path.touch()
    resumed(tiny(training={"epochs": 1}), data, folder).run()
    assert all(path.exists() for path in stale)
    resumed(tiny(training={"epochs": 2}), data, folder).run()
    assert not any(path.exists() for path in stale)
    assert (folder / "evaluation.json").exists()
