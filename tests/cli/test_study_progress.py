"""What is said of studies: durations in words, how much is left, who failed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rotvq.cli.study_progress import StudyProgress, _Work
from rotvq.data_processing import ImageData, ImageSplit
from rotvq.errors import UserError
from rotvq.studies.ablations import SUITE as ABLATIONS
from rotvq.studies.paper import SUITE
from rotvq.studies.plan import make_plan

RUN = 2 * 512
"""Training images of a run of Table 3 in the smoke preset."""

METRICS = {"mse": 0.12345, "ssim": 0.5, "perplexity": 17.4, "usage": 0.256}


@pytest.fixture
def clock(monkeypatch):
    """Time stands still until `clock.now` is set."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("time.monotonic", lambda: time.now)
    return time


@pytest.fixture
def plan(tmp_path):
    """The five runs of Table 3."""
    return make_plan(SUITE, "smoke", tmp_path, studies=["table3"])


@pytest.fixture
def data():
    split = ImageSplit(np.zeros((600, 3, 1, 1), np.uint8))
    return ImageData("black", split, split)


def finish(run, measures=()):
    run.folder.mkdir(parents=True, exist_ok=True)
    record = {"format": 2, "images": 1, "metrics": METRICS}
    (run.folder / "epochs.jsonl").write_text("{}\n" * run.config.training.epochs)
    (run.folder / "evaluation.json").write_text(json.dumps(record))
    for name in measures:
        (run.folder / f"{name}.json").write_text("{}")


def test_time_left_is_that_of_the_speed_since_the_start(clock, plan):
    finish(plan[0])
    work = _Work(plan, images=600)
    assert (work.total, work.done(), work.time_left()) == (5 * RUN, RUN, "time left unknown")
    clock.now += 10
    assert work.time_left() == "time left unknown"
    work.seen[plan[1].folder] = 512
    assert work.done() == RUN + 512
    assert work.time_left() == "70 s left", "3584 images at 51.2 a second"
    clock.now += 10
    finish(plan[1])
    assert work.time_left() == "60 s left", "3072 images at 51.2 a second"
    finish(plan[2])
    assert work.time_left() == "20 s left", "another process counts too"
    for run in plan:
        finish(run)
    assert work.time_left() == "0 s left"


@pytest.mark.parametrize(("images", "size"), [(600, RUN), (512, RUN), (100, 200)])
def test_a_run_sees_no_more_images_than_there_are(plan, images, size):
    assert _Work(plan, images).total == 5 * size


def test_a_record_that_studies_share_counts_once(capsys, tmp_path, data):
    plan = make_plan(SUITE, "smoke", tmp_path, studies=["training", "figures"])
    assert len(plan) == 2 and plan[0].folder == plan[1].folder
    work = _Work(plan, images=600)
    assert work.total == 4 * 512
    finish(plan[0])
    assert work.done() == work.total
    with StudyProgress(plan).following(data):
        pass
    # Trained, but the figures' own measurement is missing.
    assert "2 runs, 1 to do; 2,048 training images in total" in capsys.readouterr().out
    finish(plan[0], measures=["tsne"])
    with StudyProgress(plan).following(data):
        pass
    assert "2 runs, 0 to do; 2,048 training" in capsys.readouterr().out


def test_each_end_is_a_line_and_failures_are_counted(capsys, clock, plan, data):
    progress = StudyProgress(plan)
    finish(plan[0])
    means = SimpleNamespace(reconstruction_loss=0.5)
    with progress.following(data) as callback:
        callback.on_run_begin(plan[1])
        clock.now += 20
        callback.on_images(512, means)
        callback.on_measure(plan[1], "classifier_metrics")
        finish(plan[1])
        callback.on_run_end(plan[1])
        callback.on_run_begin(plan[2])
        callback.on_run_failed(plan[2], UserError("training: the [loss] is nan."))
    assert progress.failed == [plan[2]]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "5 runs, 4 to do; 5,120 training images in total (runs shared by studies count once).",
        "[2/5] table3/beta_0.25/seed_0: test MSE 0.1235, SSIM 0.500, perplexity 17, usage 26%; "
        "60 s left",
        "table3/beta_0.5/seed_0 failed: training: the [loss] is nan.",
    ]


def test_a_prior_is_followed_and_counted_like_the_training_before_it(clock, tmp_path, data):
    (run,) = make_plan(ABLATIONS, "smoke", tmp_path, studies=["priors"], variants=["fsq"])
    work = _Work([run], images=600)
    size = 512 + 2 * 512
    assert run.prior and work.total == size
    finish(run)
    assert work.done() == 512, "the prior is left"
    progress = StudyProgress([run])
    with progress.following(data) as callback:
        callback.on_run_begin(run)
        clock.now += 10
        callback.on_images(128, SimpleNamespace(bits_per_token=7.654))
        assert callback.work.done() == 512 + 128
        assert callback.work.time_left() == "70 s left", "896 images at 12.8 a second"
        assert callback.bar.details.endswith("prior, 7.65 bits per token")
    finish(run, run.measures)
    assert work.done() == size


def test_a_prior_that_was_stopped_is_not_faster_than_it_is(clock, tmp_path):
    (run,) = make_plan(ABLATIONS, "smoke", tmp_path, studies=["priors"], variants=["fsq"])
    finish(run)
    (run.folder / "prior").mkdir()
    (run.folder / "prior/config.yaml").write_text("")
    work = _Work([run], images=600)
    work.start(run)
    clock.now += 10
    work.update(run, 256)
    assert (work.done(), work.time_left()) == (768, "time left unknown")
    work.update(run, 384)
    assert work.time_left() == "50 s left", "640 images at 12.8 a second"


def test_a_metric_that_is_not_finite_is_shown_as_nan(capsys, plan, data, monkeypatch):
    monkeypatch.setitem(METRICS, "ssim", None)
    with StudyProgress(plan).following(data) as callback:
        callback.on_run_begin(plan[0])
        finish(plan[0])
        callback.on_run_end(plan[0])
    assert "test MSE 0.1235, SSIM nan, perplexity 17" in capsys.readouterr().out


def test_one_of_several_processes_says_what_it_did_and_no_more(capsys, clock, plan, data):
    with StudyProgress(plan, live=False).following(data) as callback:
        callback.on_run_begin(plan[0])
        clock.now += 1
        finish(plan[0])
        callback.on_run_end(plan[0])
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("[1/5] table3/beta_0.1/seed_0: ") and line.endswith("; 4 s left")
