"""rotvq reproduce: what it refuses, what it does once, and studies that are stopped and killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from rotvq.cli.main import main
from rotvq.evaluation.evaluate import evaluate

STUDY = ("table2", "--preset", "smoke", "--variants", "k_256", "k_512")
FOLDERS = ("table2/k_256/seed_0", "table2/k_512/seed_0")

# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["STUDY"]),
        (["table4"], ["training", "table2", "table3", "figures", "final", "estimators", "table4"]),
        (["all", "table4"], ["table2", "'table4'"]),
        (["table2", "--variants", "k_300"], ["k_256, k_512, k_1024, k_2048", "'k_300'"]),
        (["table2", "--variants", "beta_0.5"], ["k_256", "'beta_0.5'"]),
        (["table2", "--preset", "huge"], ["smoke", "cpu", "paper", "huge"]),
        (["table2", "--seeds", "0"], ["--seeds: expected 1 or more; got 0"]),
        (["table2", "--seeds", "two"], ["--seeds", "two"]),
        (["table2", "--jobs", "0"], ["--jobs: expected 1 or more; got 0"]),
        (["table2", "--jobs", "-1"], ["--jobs: expected 1 or more; got -1"]),
        (["table2", "--data", "nonsense"], ["nonsense"]),
        (["table2", "--data", "nowhere/at/all.zip"], ["nowhere/at/all.zip"]),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(rotvq, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    error = rotvq("reproduce", *words).error
    assert all(name in error for name in named), error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_in_the_place_of_the_folder_is_one_line(rotvq, tmp_path, out):
    (tmp_path / "file").write_text("mine")
    assert "file" in rotvq("reproduce", *STUDY, "--out", tmp_path / out).error
    assert (tmp_path / "file").read_text() == "mine"


# ---------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def threads():
    """As many as each of two jobs gets, so that their records can be compared bit for bit."""
    before, number = torch.get_num_threads(), max(1, (os.cpu_count() or 1) // 2)
    torch.set_num_threads(number)
    yield number
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, threads):
    """Two variants done in one go."""
    out = tmp_path_factory.mktemp("undisturbed") / "smoke"
    assert main(["reproduce", *STUDY, "--out", str(out)]) == 0
    return out


@pytest.fixture
def done(undisturbed, tmp_path):
    """The same, one's own to spoil."""
    return Path(shutil.copytree(undisturbed, tmp_path / "done"))


def files(out):
    """Every file of the records with its content and time."""
    found = (path for name in FOLDERS for path in (out / name).rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def outcome(folder):
    """What a run found, without durations and times of day."""
    lines = (folder / "epochs.jsonl").read_text().splitlines()
    epochs = [{**json.loads(line), "timing": None} for line in lines]
    evaluation = {**json.loads((folder / "evaluation.json").read_text()), "seconds": None}
    kept = [path for kind in ("safetensors", "png") for path in folder.rglob(f"*.{kind}")]
    return {
        "epochs": epochs,
        "evaluation": evaluation,
        "gradients": (folder / "gradients.json").read_text(),
        **{str(path.relative_to(folder)): path.read_bytes() for path in kept},
    }


def same(out, other):
    """Whether two folders hold the same records, bit for bit."""
    return all(outcome(out / name) == outcome(other / name) for name in FOLDERS)


def test_a_study_leaves_records_and_a_report(undisturbed):
    run = json.loads((undisturbed / FOLDERS[1] / "run.json").read_text())
    assert run["command"] == (
        f"rotvq reproduce table2 --preset smoke --out {undisturbed} --variants k_512 --seeds 1"
    )
    text = (undisturbed / "reproduction.md").read_text()
    assert "Small, K = 256" in text and "Medium, K = 512" in text
    assert "<html" in (undisturbed / "reproduction.html").read_text()


def test_finished_runs_are_not_repeated_and_the_report_is_rewritten(rotvq, done):
    before = files(done)
    for name in ("reproduction.html", "reproduction.md"):
        (done / name).write_text("old")
    answer = rotvq("reproduce", *STUDY, "--out", done)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == f"Report: {done / 'reproduction.html'}\n"
    assert files(done) == before
    assert "K = 512" in (done / "reproduction.md").read_text()
    assert "<html" in (done / "reproduction.html").read_text()


def test_a_record_of_another_configuration_is_refused_with_its_fields(rotvq, done):
    config = done / FOLDERS[1] / "config.yaml"
    values = yaml.safe_load(config.read_text())
    values["training"].update(learning_rate=0.5)
    values["model"].update(width=24)
    config.write_text(yaml.safe_dump(values))
    (done / FOLDERS[0] / "evaluation.json").unlink()
    (done / "reproduction.md").write_text("old")
    before = files(done)
    error = rotvq("reproduce", *STUDY, "--out", done).error
    assert "model.width: 24 → 16; training.learning_rate: 0.5 → 0.0002" in error
    assert "table2/k_512" in error
    assert files(done) == before
    assert (done / "reproduction.md").read_text() == "old"


def test_other_images_are_refused_before_anything_is_trained(rotvq, done, make_images, tmp_path):
    other = make_images(tmp_path / "other", {"train": 64, "test": 8}, 32, 32)
    shutil.rmtree(done / FOLDERS[1])
    words = ("reproduce", "table2", "--preset", "smoke", "--variants", "k_512")
    error = rotvq(*words, "--data", other, "--out", done).error
    assert FOLDERS[0] in error and "own train images" in error
    assert not (done / FOLDERS[1]).exists()


def test_a_run_that_fails_does_not_keep_the_report_from_the_others(rotvq, done, monkeypatch):
    def refuse(trainer, name, loss):
        trainer.refuse("the loss is nan")

    monkeypatch.setattr("rotvq.training.run.TrainingRun.check_finite", refuse)
    shutil.rmtree(done / FOLDERS[1])
    (done / "reproduction.html").unlink()
    answer = rotvq("reproduce", *STUDY, "--out", done)
    assert (answer.status, answer.err) == (1, "")
    assert "2 runs, 1 to do; 4,096 training images" in answer.out
    assert answer.out.count("table2/k_512/seed_0 failed: training: the loss is nan") == 1
    assert (done / "reproduction.html").exists()
    assert not (done / FOLDERS[1] / "evaluation.json").exists()


# ---------------------------------------------------------------------- signals


def test_a_signal_during_a_runs_evaluation_stops_the_study(rotvq, done, monkeypatch):
    for name in FOLDERS:
        (done / name / "evaluation.json").unlink()

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return evaluate(*arguments, **options)

    monkeypatch.setattr("rotvq.training.trainer.evaluate", interrupted)
    assert rotvq("reproduce", *STUDY, "--out", done).status == 130
    assert not (done / FOLDERS[1] / "evaluation.json").exists()


@pytest.fixture
def start(threads):
    """Begin the command line as the leader of a process group; what is left of it is killed."""
    begun = []

    def run(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", "rotvq", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "COLUMNS": "400"},
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def alive(group):
    """Processes of a group, but for the dead that nobody has asked after."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def wait_for(process, *paths):
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in paths):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_or_killed_study_goes_on_to_the_same_end(
    rotvq, start, undisturbed, tmp_path, number
):
    out = tmp_path / "smoke"
    process = start("reproduce", *STUDY, "--out", out)
    wait_for(process, out / FOLDERS[0] / "checkpoint.pt")
    process.send_signal(number)
    output, err = process.communicate(timeout=60)
    assert err == ""
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"Stopped. Everything is saved in {out}; run the same command to resume." in output
    assert not (out / FOLDERS[1]).exists(), "it must not have come that far"
    assert rotvq("reproduce", *STUDY, "--out", out).status == 0
    assert same(out, undisturbed)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc who is alive")
def test_two_jobs_stop_together_and_end_as_one_job_does(start, undisturbed, tmp_path):
    out = tmp_path / "smoke"
    words = ("reproduce", *STUDY, "--jobs", 2, "--out", out)
    process = start(*words)
    wait_for(process, *(out / name / "run.json" for name in FOLDERS))
    process.send_signal(signal.SIGTERM)
    output, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "")
    assert "Stopped. Everything is saved" in output
    deadline = time.monotonic() + 10
    while left := alive(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert not all((out / name / "evaluation.json").exists() for name in FOLDERS)
    again = start(*words)
    output, err = again.communicate(timeout=120)
    assert (again.returncode, err) == (0, "")
    assert same(out, undisturbed)
