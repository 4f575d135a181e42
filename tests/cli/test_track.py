"""What trackers receive, and invalid names."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from rotvq.errors import UserError
from rotvq.training import tracking


def test_tensorboard_sees_curves_pictures_and_the_codebook(rotvq, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    answer = rotvq("train", *tiny, "--out", tmp_path / "run", "--track", "tensorboard")
    assert (answer.status, answer.err) == (0, "")
    (folder,) = (tmp_path / "run" / "tracking").iterdir()
    events = EventAccumulator(str(folder), size_guidance={"histograms": 0, "images": 0})
    events.Reload()
    records = [json.loads(x) for x in (tmp_path / "run/epochs.jsonl").read_text().splitlines()]
    for group, name in (("test", "perplexity"), ("train", "loss"), ("codebook", "dead")):
        found = [(e.step, e.value) for e in events.Scalars(f"{group}/{name}")]
        assert found == [(r["images"], pytest.approx(r[group][name])) for r in records]
    assert len(events.Images("reconstructions")) == 2
    assert [e.step for e in events.Histograms("codebook/N")] == [r["images"] for r in records]
    assert events.Scalars("running/loss")[-1].value == pytest.approx(records[-1]["train"]["loss"])
    assert [e.step for e in events.Scalars("running/loss")][-1] == records[-1]["images"]
    final = json.loads((tmp_path / "run/evaluation.json").read_text())["metrics"]
    (found,) = events.Scalars("final/mse")
    assert (found.step, found.value) == (records[-1]["images"], pytest.approx(final["mse"]))
    options = hparams(events, "session_start_info").session_start_info.hparams
    assert options["training.batch_size"].number_value == 8
    assert options["quantizer.estimator"].string_value == "rotation"
    assert options["quantizer.levels"].string_value == "null"
    metrics = hparams(events, "experiment").experiment.metric_infos
    assert "final/mse" in {info.name.tag for info in metrics}
    projected = list(folder.rglob("tensors.tsv"))
    assert len(projected) == 1 and len(projected[0].read_text().splitlines()) == 16


def hparams(events, kind):
    """What TensorBoard's plugin of this name stored."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events.summary_metadata[f"_hparams_/{kind}"].plugin_data.content
    return HParamsPluginData.FromString(content)


def test_points_within_an_epoch_are_logged_a_limited_number_of_times():
    from types import SimpleNamespace as Some

    @dataclass
    class Means:
        loss: float
        counts: object = None

    config = Some(training=Some(epochs=2))
    trainer = Some(config=config, images_per_epoch=5000, position=Some(images=0))
    recorder = Recorder()
    callback = tracking.TrackerCallback([recorder], trainer, print)
    for images in range(1, 10_001):
        callback.on_images(images, Means(0.5))
    assert len(recorder.logged) == tracking.POINTS
    assert recorder.logged[0] == (10, {"running/loss": 0.5})


def test_a_run_is_the_same_with_and_without(rotvq, tiny, trained, tmp_path):
    pytest.importorskip("tensorboard")
    rotvq("train", *tiny, "--out", tmp_path / "run", "--track", "tensorboard")
    for name in ("model.safetensors", "config.yaml", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes()


def test_an_invalid_name_is_refused(rotvq, tiny, tmp_path):
    error = rotvq("train", *tiny, "--out", tmp_path / "run", "--track", "board").error
    assert "expected one of" in error and "tensorboard" in error and "wandb" in error
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [])
    with pytest.raises(
        UserError, match=r"--track wandb: expected its package; .* pip install wandb"
    ):
        tracking.check(["wandb"])


class Recorder:
    """A tracker without pictures, as most are."""

    name = "recorder"

    def __init__(self):
        self.logged = []

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.logged.append("finished")


def test_a_tracker_that_fails_is_dropped_and_the_run_continues(rotvq, tiny, tmp_path, monkeypatch):
    class Failing(Recorder):
        def log(self, values, step):
            super().log(values, step)
            raise ConnectionError("no way to the service")

    failing = Failing()
    monkeypatch.setattr(tracking, "check", lambda names: None)
    monkeypatch.setattr(tracking, "_started", lambda name, config, folder: failing)
    answer = rotvq("train", *tiny, "--out", tmp_path / "run", "--track", "any")
    assert answer.status == 0 and answer.out.count("Logging to recorder stopped") == 1
    assert len(failing.logged) == 2 and failing.logged[-1] == "finished"


def test_other_trackers_get_numbers_only(rotvq, tiny, tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(tracking, "check", lambda names: None)
    monkeypatch.setattr(tracking, "_started", lambda name, config, folder: recorder)
    assert rotvq("train", *tiny, "--out", tmp_path / "run", "--track", "any").status == 0
    *logged, last = recorder.logged
    epochs = [(step, values) for step, values in logged if "train/loss" in values]
    assert [step for step, _ in epochs] == [40, 80] and last == "finished"
    ((step, final),) = [each for each in logged if "final/mse" in each[1]]
    assert step == 80 and all(isinstance(value, int | float) for value in final.values())
    values = epochs[0][1]
    assert all(isinstance(value, float) for value in values.values())
    assert {"train/loss", "test/psnr", "codebook/dead", "timing/images_per_second"} <= set(values)


def test_a_tracker_that_does_not_start_is_named(rotvq, tmp_path, monkeypatch):
    class Failing:
        requires_logging_directory = False

        def __init__(self, project):
            raise RuntimeError("not logged in")

    monkeypatch.setattr(tracking, "check", lambda names: None)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Failing)
    answer = rotvq("train", "--preset", "smoke", "--track", "wandb", "--out", tmp_path / "run")
    assert "--track wandb: expected a tracker that starts; got RuntimeError: not logged in" in (
        answer.error
    )
