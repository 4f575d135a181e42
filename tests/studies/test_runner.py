"""The runner: each run once, after any interruption the same; and what is kept of it as it goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from rotvq.data_processing import ImageData, ImageSplit
from rotvq.errors import UserError
from rotvq.studies.callbacks import StudyCallback
from rotvq.studies.classifier import obtain
from rotvq.studies.measures import MEASURES
from rotvq.studies.plan import Run, check
from rotvq.studies.recorder import codebook_file, gradient_norms, read_codebook, uses
from rotvq.studies.runner import LOCKS, run_plan
from rotvq.studies.study import Variant
from rotvq.training.build import build_model, load_model
from rotvq.training.config import Config, DataConfig, ModelConfig, QuantizerConfig, TrainingConfig

TINY = Config(
    data=DataConfig(source="noise"),
    model=ModelConfig(width=8, dim=8, depth=1),
    quantizer=QuantizerConfig(codebook_size=16),
    training=TrainingConfig(epochs=3, batch_size=8),
)


@pytest.fixture(scope="module")
def data() -> ImageData:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (n, 3, 16, 16), dtype=np.uint8) for n in (40, 12)]
    labels = [np.arange(len(some)) % 2 for some in images]
    return ImageData("noise", *map(ImageSplit, images, labels))


def a_run(out: Path, name: str = "a", measures: tuple[str, ...] = (), **training) -> Run:
    config = TINY.replace(training=training)
    return Run("study", Variant(name, name, {}), 0, config, out / "study" / name, measures)


def do(plan, data, out, **methods) -> None:
    callback = StudyCallback()
    for name, method in methods.items():
        assert hasattr(StudyCallback, name)
        setattr(callback, name, method)
    run_plan(plan, data, out, command=lambda run: f"make {run.name}", callback=callback)


def record(folder: Path) -> dict[str, object]:
    """What a run leaves behind, but for durations."""
    lines = (folder / "epochs.jsonl").read_text().splitlines()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    return {
        "epochs": [{k: v for k, v in json.loads(line).items() if k != "timing"} for line in lines],
        "metrics": evaluation["metrics"],
        "counts": evaluation["counts"],
        "gradients": json.loads((folder / "gradients.json").read_text()),
        **{
            str(file.relative_to(folder)): file.read_bytes()
            for file in [*folder.glob("*.safetensors"), *folder.glob("codebooks/*")]
        },
    }


def test_runs_are_carried_out_once(data, tmp_path):
    plan = [a_run(tmp_path, "a"), a_run(tmp_path, "b", seed=1)]
    ended: list[str] = []
    do(plan, data, tmp_path, on_run_end=lambda run: ended.append(run.variant.name))
    assert ended == ["a", "b"]
    assert all(run.done for run in plan)
    assert json.loads((plan[0].folder / "run.json").read_text())["command"] == "make study/a/seed_0"
    do(plan, data, tmp_path, on_run_begin=lambda run: pytest.fail(f"{run.name} again"))


@contextmanager
def held(path: Path) -> Iterator[threading.Event]:
    """A lock that someone else holds until the event is set."""
    path.parent.mkdir(exist_ok=True)
    taken, release = threading.Event(), threading.Event()

    def hold():
        with FileLock(path):
            taken.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)
    yield release
    thread.join()


class Killed(Exception):
    """Stands for a process that ends between two statements."""


@pytest.mark.parametrize("at", [8, 40, 48, 80, 120])
def test_a_run_killed_anywhere_resumes_to_the_same_end(data, tmp_path, at, monkeypatch):
    monkeypatch.setattr("rotvq.training.monitor.READ_EVERY", 0)
    whole, killed = a_run(tmp_path, "whole"), a_run(tmp_path, "killed")

    def kill(images, means):
        if images == at:
            raise Killed

    do([whole], data, tmp_path)
    with pytest.raises(Killed):
        do([killed], data, tmp_path, on_images=kill)
    assert not killed.done
    do([killed], data, tmp_path)
    assert record(killed.folder) == record(whole.folder)


def test_a_kill_between_records_and_checkpoint_changes_nothing(data, tmp_path, monkeypatch):
    whole, killed = a_run(tmp_path, "whole"), a_run(tmp_path, "killed")
    do([whole], data, tmp_path)

    def die(trainer):
        if trainer.position.epoch == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("rotvq.training.run.TrainingRun.save", die)
        with pytest.raises(Killed):
            do([killed], data, tmp_path)
    do([killed], data, tmp_path)
    assert record(killed.folder) == record(whole.folder)


def test_a_missing_measurement_is_made_without_training_again(data, tmp_path, monkeypatch):
    calls: list[str] = []
    monkeypatch.setitem(MEASURES, "count", lambda run, shared: {"format": 1, "n": len(calls)})
    do([a_run(tmp_path)], data, tmp_path)
    asked = a_run(tmp_path, measures=("count",))
    assert asked.trained
    assert not asked.done
    do([asked], data, tmp_path, on_images=lambda *_: pytest.fail("trained again"))
    assert json.loads((asked.folder / "count.json").read_text()) == {"format": 1, "n": 0}


def test_a_run_that_diverges_is_reported_and_the_others_finish(data, tmp_path, monkeypatch):
    def check(trainer, name, loss):
        if trainer.config.training.seed == 1:
            trainer.refuse("the loss is nan")

    monkeypatch.setattr("rotvq.training.run.TrainingRun.check_finite", check)
    plan = [a_run(tmp_path, "bad", seed=1), a_run(tmp_path, "good")]
    failed: list[str] = []
    do(plan, data, tmp_path, on_run_failed=lambda run, error: failed.append(run.variant.name))
    assert failed == ["bad"]
    assert [run.done for run in plan] == [False, True]


def test_the_codes_of_a_fixed_grid_are_recorded_too(data, tmp_path):
    config = TINY.replace(model={"dim": 2}, quantizer={"levels": "4,4"}, training={"epochs": 1})
    run = Run("study", Variant("fsq", "fsq", {}), 0, config, tmp_path / "study/fsq", ())
    do([run], data, tmp_path)
    e, use = read_codebook(codebook_file(run.folder, 1))
    values = [-1, -0.5, 0, 0.5]
    assert e.tolist() == [[a, b] for a in values for b in values]
    assert use.sum() == 12 * 16


def test_a_run_that_another_process_holds_comes_last(data, tmp_path):
    plan = [a_run(tmp_path, "taken"), a_run(tmp_path, "free")]
    order: list[str] = []
    with held(tmp_path / LOCKS / "study-taken") as release:

        def ends(run):
            order.append(run.variant.name)
            if run.variant.name == "free":
                threading.Timer(0.1, release.set).start()

        do(plan, data, tmp_path, on_run_end=ends)
    assert order == ["free", "taken"]


def test_a_run_that_another_process_finished_is_not_repeated(data, tmp_path):
    run = a_run(tmp_path)
    do([run], data, tmp_path)
    (run.folder / "evaluation.json").rename(tmp_path / "kept")
    with held(tmp_path / LOCKS / "study-a") as release:

        def finish():
            (tmp_path / "kept").rename(run.folder / "evaluation.json")
            release.set()

        threading.Timer(0.2, finish).start()
        do([run], data, tmp_path, on_run_begin=lambda run: pytest.fail("done twice"))
    assert run.done


@pytest.fixture(scope="module", name="run")
def kept(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    run = a_run(out, measures=("tsne", "best", "classifier_metrics"), epochs=4, learning_rate=3e-3)
    do([run], data, out)
    return run


class TestKept:
    """Gradient norms, codebooks, the best model and what a classifier sees."""

    def test_norms_are_those_of_every_parameter_at_each_epoch(self, run):
        norms = json.loads((run.folder / "gradients.json").read_text())["epochs"]
        assert list(norms) == ["1", "2", "3", "4"]
        names = [name for name, _ in build_model(run.config).named_parameters()]
        assert all(list(each) == names for each in norms.values())

    def test_norms_equal_a_backward_pass_and_leave_the_model_alone(self, run):
        model = load_model(run.folder).train()
        before = {name: t.clone() for name, t in model.state_dict().items()}
        images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
        norms = gradient_norms(model, images, beta=0.25)
        assert model.training
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
        model.eval()(images / 127.5 - 1).loss(0.25).backward()
        for name, p in model.named_parameters():
            assert norms[name] == pytest.approx(p.grad.norm().item(), rel=1e-4)

    def test_uses_count_every_token(self, run):
        model = load_model(run.folder)
        images = torch.randint(256, (130, 3, 16, 16), dtype=torch.uint8)
        expected = np.bincount(model.encode(images / 127.5 - 1).flatten(), minlength=16)
        np.testing.assert_array_equal(uses(model, images), expected)

    def test_codebooks_are_those_of_the_milestones(self, run):
        assert sorted(file.name for file in (run.folder / "codebooks").iterdir()) == [
            "epoch_0001.safetensors",
            "epoch_0002.safetensors",
        ]
        e, use = read_codebook(codebook_file(run.folder, 2))
        assert (e.shape, e.dtype, use.sum()) == ((16, 8), np.float32, 12 * 16)

    def test_tsne_has_one_point_per_code(self, run):
        maps = json.loads((run.folder / "tsne.json").read_text())["epochs"]
        assert [m["epoch"] for m in maps] == [1, 2, 2]
        for m in maps:
            assert np.isfinite(m["points"]).all()
            assert (np.shape(m["points"]), len(m["uses"])) == ((16, 2), 16)

    def test_the_best_model_is_that_of_the_least_test_loss(self, run):
        lines = (run.folder / "epochs.jsonl").read_text().splitlines()
        losses = [json.loads(line)["test"]["loss"] for line in lines]
        best = json.loads((run.folder / "best.json").read_text())
        assert best["metrics"]["loss"] == pytest.approx(min(losses), rel=1e-5)

    def test_the_classifier_is_saved_with_its_record(self, run):
        measured = json.loads((run.folder / "classifier_metrics.json").read_text())["metrics"]
        record = json.loads((run.folder.parents[1] / "classifier/classifier.json").read_text())
        assert measured["accuracy_original"] == record["accuracy"]
        assert measured["frechet_distance"] > 0

    def test_a_classifier_of_other_images_is_refused(self, run, data):
        other = ImageData("other", data.test, data.test)
        folder = run.folder.parents[1] / "classifier"
        with pytest.raises(UserError, match="trained on others"):
            obtain(other, folder, torch.device("cpu"))


def test_the_network_of_a_perceptual_loss_is_trained_first_and_once(data, tmp_path):
    losses = {"perceptual": str(tmp_path / "perceptual"), "perceptual_weight": 0.1}
    plan = [
        a_run(tmp_path, name, epochs=1, adversarial_weight=weight, **losses)
        for name, weight in (("a", 0.0), ("b", 0.1))
    ]
    do(plan, data, tmp_path)
    records = [json.loads((run.folder / "run.json").read_text())["perceptual"] for run in plan]
    assert records[0] == records[1]
    assert (records[0]["seed"], records[0]["widths"]) == (1, [24, 48, 96])
    moved = plan[0].config.replace(training={"perceptual": "elsewhere"})
    check(replace(plan[0], config=moved))
