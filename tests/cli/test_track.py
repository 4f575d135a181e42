"""What trackers receive, and invalid names."""

from __future__ import annotations

import json

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
    projected = list(folder.rglob("tensors.tsv"))
    assert len(projected) == 1 and len(projected[0].read_text().splitlines()) == 16


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
    (first, values), (second, _), last = recorder.logged
    assert (first, second, last) == (40, 80, "finished")
    assert all(isinstance(value, float) for value in values.values())
    assert {"train/loss", "test/psnr", "codebook/dead", "timing/images_per_second"} <= set(values)
