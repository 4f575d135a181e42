"""rotvq train: options to configuration, folders, and runs that are stopped and killed."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from rotvq.cli.main import main
from rotvq.cli.train import parse
from rotvq.data_processing import load
from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.training.config import Config
from rotvq.training.folder import prepare, read_config
from rotvq.training.presets import FINETUNE, PRESETS

# ---------------------------------------------------------------------- options


def config_of(*words):
    return parse([str(word) for word in words])[1]


def test_the_defaults_are_the_papers():
    options, config = parse([])
    assert config == Config()
    assert options == (None, Path("runs/train"), False, False, ())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_where_the_defaults_come_from(name):
    options, config = parse(["--preset", name])
    assert config == PRESETS[name]
    assert options.out == Path(f"runs/{name}")
    changed = config_of("--training.seed", 7, "--preset", name)
    assert changed.training.seed == 7
    assert changed.model == PRESETS[name].model


@pytest.mark.parametrize("words", [["--data", "X"], ["--data=X"], ["--data.source", "X"]])
def test_data_is_short_for_data_source(words):
    assert config_of(*words).data.source == "X"
    assert config_of(*words, "--data.size", 16).data.size == 16


def test_a_yaml_file_gives_options_and_later_ones_win(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("data:\n  source: Y\ntraining:\n  epochs: 7\n  seed: 1\n  beta: 1\n")
    config = config_of("--training.seed", 2, "--config", path, "--training.epochs", 9)
    assert (config.data.source, config.training.beta) == ("Y", 1.0)
    assert config.training.seed == 1, "the file comes later"
    assert config.training.epochs == 9, "the option comes later"
    assert config.model == Config().model


def test_numbers_are_read_in_the_usual_notations():
    config = config_of("--training.learning_rate", "1e-3", "--data.size", "null")
    assert config.training.learning_rate == 1e-3
    assert config.data.size is None
    assert config_of("--training.learning_rate", "1").training.learning_rate == 1.0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--training.epoch", "3", "--data", "nowhere/at/all.zip"], "training.epoch"),
        (["--overwrit", "--data", "nowhere/at/all.zip"], "overwrit"),
        (["--training.epochs", "many"], "training.epochs: expected int; got many"),
        (["--training.epochs", "0"], "training.epochs: expected a positive number; got 0"),
        (["--training.learning_rate", "nan"], "training.learning_rate"),
        (["--quantizer.estimator", "turn"], "quantizer.estimator"),
        (["--quantizer.decay", "1"], "quantizer.decay: expected 0 to below 1"),
        (["--training.micro_batch_size", "3"], "training.micro_batch_size: expected a divisor"),
        (["--model.channels", "2"], "model.channels"),
        (["--preset", "huge"], "huge"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--data", "nowhere/at/all.zip"], "nowhere/at/all.zip"),
        (["--data", "nonsense"], "nonsense"),
        (["--out"], "--out"),
        (["stray"], "stray"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(rotvq, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    assert named in rotvq("train", *words).error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"[" * 200_000, b"\xff\xfe\x00", b"a: &a [1]\nb: *a"])
def test_a_yaml_file_made_to_break_is_one_line(rotvq, tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    error = rotvq("train", "--config", tmp_path / "bad.yaml", "--out", tmp_path / "run").error
    assert len(error) < 600 and "expected YAML" in error


@pytest.mark.parametrize(
    "text",
    ["training: [", "training:\n  epoch: 3\n", "trainig:\n  epochs: 3\n", "- 1\n",
     "training:\n  epochs: many\n", "training: 3\n", "training: [3]\n", "training:\n",
     "training:\n  epochs: [3]\n", "training:\n  epochs: 2001-01-01\n"],
)  # fmt: skip
def test_a_bad_yaml_file_is_one_line(rotvq, tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    error = rotvq("train", "--config", tmp_path / "bad.yaml", "--out", tmp_path / "run").error
    assert len(error) < 600
    assert "functools" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("line", ["preset: smoke", "out: here", "resume: true", "overwrite: true"])
def test_a_yaml_file_with_other_options_is_refused(tmp_path, line):
    path = tmp_path / "some.yaml"
    path.write_text(f"{line}\ntraining:\n  seed: 5\n")
    with pytest.raises(UserError, match="command line"):
        parse(["--config", str(path)])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("config: {}", "some.yaml: expected only data, model, quantizer, training"),
        ("training: {}", "some.yaml: training: expected options with values"),
        ("training:\n  class_path: {}", "unrecognized arguments: --training.class_path"),
    ],
)
def test_a_yaml_file_that_names_another_does_not_have_it_read(rotvq, tmp_path, names, message):
    """The second file would be read without the guard, and a pipe would be waited for."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "some.yaml").write_text(names.format(tmp_path / "pipe.yaml") + "\n")
    error = rotvq("train", "--config", tmp_path / "some.yaml", "--out", tmp_path / "run").error
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--config", "--config=", "--training", "--model="])
@pytest.mark.parametrize("file", ["pipe", "/dev/zero", "."])
def test_only_regular_files_are_read_as_options(rotvq, tmp_path, monkeypatch, option, file):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    words = [option + file] if option.endswith("=") else [option, file]
    error = rotvq("train", *words, "--out", tmp_path / "run").error
    if option.startswith("--config"):
        assert f"{file}: expected a regular file; got a " in error
    else:
        name = option.removesuffix("=")
        assert f"{name}: expected {name}.NAME VALUE; got {name} alone" in error


def test_a_configuration_round_trips_through_its_file(tmp_path):
    """Every type of value, and texts that look like other types."""
    changes = {
        "data": {"source": "1e3: [null, #", "size": None, "train_images": 3},
        "quantizer": {"restart": 0.0, "final_decay": 1e-7, "levels": "8, 8", "codebook_size": 64},
        "training": {"ema_decay": 0.5, "learning_rate": 5e-324, "micro_batch_size": None},
    }
    config = Config().replace(**changes)
    prepare(tmp_path / "run", config)
    assert config_of("--preset", "smoke", "--config", tmp_path / "run/config.yaml") == config


# ---------------------------------------------------------------------- runs


def lines(folder):
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def outcome(folder):
    """What a run found, without durations."""
    records = lines(folder)
    for record in records:
        del record["timing"]
    evaluation = json.loads((folder / "evaluation.json").read_text())
    del evaluation["seconds"]
    pictures = sorted((folder / "reconstructions").iterdir())
    return {
        "weights": (folder / "model.safetensors").read_bytes(),
        "records": json.dumps(records),
        "evaluation": json.dumps(evaluation),
        "pictures": {path.name: path.read_bytes() for path in pictures},
    }


def test_a_run_leaves_its_whole_folder(rotvq, tiny, tmp_path):
    answer = rotvq("train", *tiny, "--out", tmp_path / "run")
    assert (answer.status, answer.err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".rotvq-lock", "checkpoint.pt", "config.json", "config.yaml", "epochs.csv",
        "epochs.jsonl", "evaluation.json", "model.safetensors", "reconstructions", "run.json",
    ]  # fmt: skip
    assert len(list((tmp_path / "run/reconstructions").iterdir())) == 2
    assert "smooth: 40 training and 12 test images, 3x16x16." in answer.out
    assert [line.split()[1] for line in answer.out.splitlines() if line.startswith("epoch")] == [
        "1",
        "2",
    ]
    assert "test, 12 images: MSE" in answer.out
    assert f"rotvq report {tmp_path / 'run'}" in answer.out
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert shlex.split(run["command"]) == ["rotvq", "train", *tiny, "--out", str(tmp_path / "run")]


def test_the_saved_configuration_makes_the_run_again(rotvq, trained, tmp_path):
    assert rotvq("train", "--config", trained / "config.yaml", "--out", tmp_path / "b").status == 0
    assert outcome(tmp_path / "b") == outcome(trained)


def test_a_preset_and_its_saved_configuration_make_the_same_run(rotvq, images, tmp_path):
    words = [
        "--preset",
        "smoke",
        "--data",
        images,
        "--training.epochs",
        1,
        "--training.batch_size",
        8,
    ]
    assert rotvq("train", *words, "--out", tmp_path / "a").status == 0
    saved = tmp_path / "a/config.yaml"
    assert rotvq("train", "--config", saved, "--out", tmp_path / "b").status == 0
    assert saved.read_text() == (tmp_path / "b/config.yaml").read_text()
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


def test_a_run_is_not_replaced_without_overwrite(rotvq, tiny, trained):
    before = outcome(trained)
    error = rotvq("train", *tiny, "--out", trained).error
    assert "--resume" in error
    assert "--overwrite" in error
    assert outcome(trained) == before


def test_overwrite_replaces_a_run(rotvq, tiny, trained):
    (trained / "notes.txt").write_text("mine")
    answer = rotvq("train", *tiny, "--training.epochs", 1, "--out", trained, "--overwrite")
    assert answer.status == 0
    assert len(lines(trained)) == 1
    assert (trained / "notes.txt").read_text() == "mine"
    assert len(list((trained / "reconstructions").iterdir())) == 1


@pytest.mark.parametrize("words", [[], ["--overwrite"], ["--resume"]])
def test_a_folder_of_another_program_is_refused(rotvq, tiny, tmp_path, words):
    (tmp_path / "notes.txt").write_text("mine")
    assert "other files" in rotvq("train", *tiny, "--out", tmp_path, *words).error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


BAD = {
    "data": ["--data", "nowhere/at/all.zip"],
    "model": ["--from", "nowhere"],
    "precision": ["--training.precision", "fp16", "--training.device", "cpu"],
    "stride": ["--model.stages", "5"],
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_an_invalid_run_creates_no_folder(rotvq, tiny, tmp_path, name):
    assert rotvq("train", *tiny, *BAD[name], "--out", tmp_path / "run").error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(BAD))
def test_an_invalid_run_replaces_nothing(rotvq, tiny, trained, name):
    before = outcome(trained)
    assert rotvq("train", *tiny, *BAD[name], "--out", trained, "--overwrite").error
    assert outcome(trained) == before


def test_images_that_do_not_halve_are_one_line(rotvq, tiny, tmp_path, make_images):
    odd = make_images(tmp_path / "odd", {"train": 10, "test": 2}, 18, 16)
    error = rotvq("train", *tiny, "--data", odd, "--out", tmp_path / "run").error
    assert "divisible by 4" in error
    assert "got 18x16" in error


def test_gray_and_oblong_images_train(rotvq, tiny, tmp_path, make_images):
    odd = make_images(tmp_path / "odd", {"train": 10, "test": 2}, 16, 24)
    words = ["--data", odd, "--model.channels", 1, "--training.epochs", 1]
    answer = rotvq("train", *tiny, *words, "--out", tmp_path / "run")
    assert answer.status == 0
    assert "1x16x24" in answer.out


def test_a_loss_that_is_not_finite_is_one_line(rotvq, tiny, tmp_path):
    words = ["--training.learning_rate", "1e30", "--training.precision", "fp32"]
    answer = rotvq("train", *tiny, *words, "--out", tmp_path / "run")
    assert "learning_rate" in answer.error
    assert not (tmp_path / "run/evaluation.json").exists()


# ---------------------------------------------------------------------- going on


def test_resume_starts_a_run_that_does_not_exist(rotvq, tiny, tmp_path):
    assert rotvq("train", *tiny, "--out", tmp_path / "run", "--resume").status == 0
    assert len(lines(tmp_path / "run")) == 2


def test_resume_of_a_finished_run_changes_nothing(rotvq, trained):
    before = outcome(trained)
    assert rotvq("train", "--out", trained, "--resume").status == 0
    assert outcome(trained) == before


def test_another_configuration_is_refused_with_the_options_that_differ(rotvq, trained):
    before = outcome(trained)
    words = ["--training.seed", 5, "--model.width", 16, "--training.epochs", 9]
    error = rotvq("train", "--out", trained, "--resume", *words).error
    assert "model.width: 8 → 16; training.seed: 0 → 5" in error
    assert "epochs: 2" not in error
    assert outcome(trained) == before


def test_epochs_may_grow_and_are_remembered(rotvq, tiny, trained, tmp_path):
    assert rotvq("train", "--out", trained, "--resume", "--training.epochs", 4).status == 0
    words = [*tiny, "--training.epochs", 4, "--out", tmp_path / "whole"]
    assert rotvq("train", *words).status == 0
    assert outcome(trained) == outcome(tmp_path / "whole")
    # Otherwise the next --resume would take the run for finished at 2.
    assert read_config(trained).training.epochs == 4


def test_other_images_are_refused(rotvq, tiny, tmp_path, make_images):
    data = make_images(tmp_path / "some", {"train": 10, "test": 2})
    words = ["train", *tiny, "--data", data, "--out", tmp_path / "run"]
    assert rotvq(*words).status == 0
    before = outcome(tmp_path / "run")
    (data / "train/0000.png").unlink()
    error = rotvq(*words, "--resume").error
    assert "expected the run's own train images, 10 of" in error
    assert "got 9 of" in error
    assert outcome(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"data: ["),
        ("config.yaml", b""),
        ("config.yaml", b"\xff\xff"),
        ("run.json", b"{"),
        ("run.json", b""),
        ("checkpoint.pt", b""),
        ("checkpoint.pt", b"garbage"),
        ("checkpoint.pt", 0.5),
        ("checkpoint.pt", 0.98),
    ],
)
def test_a_damaged_run_is_one_line(rotvq, trained, name, content):
    path = trained / name
    whole = path.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else whole[: int(content * len(whole))])
    damaged = path.read_bytes()
    error = rotvq("train", "--out", trained, "--resume").error
    assert name in error
    assert path.read_bytes() == damaged
    assert (trained / "evaluation.json").exists()


def test_lost_weights_are_written_again(rotvq, trained):
    before = outcome(trained)
    (trained / "model.safetensors").write_bytes(b"damaged")
    assert rotvq("train", "--out", trained, "--resume").status == 0
    assert outcome(trained) == before


# ---------------------------------------------------------------------- signals

LONG = (
    "--model.width 16 --model.dim 8 --model.depth 1 --quantizer.codebook_size 16 "
    "--quantizer.restart 0.03 --training.batch_size 8 --training.epochs 6"
).split()


@pytest.fixture(scope="module")
def many_images(tmp_path_factory):
    """Enough of them that an epoch takes about a second."""
    photos = load("photos").train.images[:400].transpose(0, 2, 3, 1)
    folder = tmp_path_factory.mktemp("many") / "photos"
    for split, some in (("train", photos[:384]), ("test", photos[384:])):
        (folder / split).mkdir(parents=True)
        for i, image in enumerate(some):
            Image.fromarray(image).save(folder / split / f"{i:04d}.png")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(many_images, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([*map(str, ("train", *long_words(many_images), "--out", out))]) == 0
    return outcome(out)


def long_words(data):
    return ["--data", data, *LONG]


def start(*words, **options):
    """The command line in a process of its own, with one thread as here."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    return subprocess.Popen(
        [sys.executable, "-m", "rotvq", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def after_first_epoch(process, out):
    """Wait until the run is in its second epoch."""
    deadline = time.monotonic() + 120
    while not (out / "epochs.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_end(many_images, uninterrupted, tmp_path):
    out = tmp_path / "run"
    process = start("train", *long_words(many_images), "--out", out)
    after_first_epoch(process, out)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it must not have finished before"
    assert 1 <= len(lines(out)) < 6
    again = start("train", "--out", out, "--resume")
    output, err = again.communicate(timeout=300)
    assert (again.returncode, err) == (0, "")
    assert "resuming at image" in output
    assert outcome(out) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_prints_the_command_to_resume(
    rotvq, many_images, uninterrupted, tmp_path, number
):
    out = tmp_path / "run"
    process = start("train", *long_words(many_images), "--out", out)
    after_first_epoch(process, out)
    process.send_signal(number)
    output, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    assert not (out / "evaluation.json").exists()
    command = shlex.split(output.strip().splitlines()[-1].partition("Continue with: ")[2])
    assert command == ["rotvq", "train", "--out", str(out), "--resume"]
    assert rotvq(*command[1:]).status == 0
    assert outcome(out) == uninterrupted


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_costs_nothing(rotvq, many_images, uninterrupted, tmp_path):
    out = tmp_path / "run"
    # Room for the weights, and none for the checkpoint.
    room = len(uninterrupted["weights"]) * 3 // 2
    process = start(
        "train", *long_words(many_images), "--out", out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )  # fmt: skip
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count("\n") == 1 and "expected free space" in err and "File too large" in err
    assert not [*out.rglob("checkpoint*"), *out.rglob(".*.part")]
    command = shlex.split(err.partition("continue with ")[2])
    assert rotvq(*command[1:]).status == 0
    assert outcome(out) == uninterrupted


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_missing_write_permission_is_one_line(rotvq, tiny):
    answer = rotvq("train", *tiny, "--out", "/proc/rotvq/run")
    assert answer.status == 2
    assert answer.err.count("\n") == 1 and "writable" in answer.err


def test_the_command_to_resume_can_be_pasted(rotvq, tiny, tmp_path, monkeypatch):
    out = tmp_path / "my run"

    def interrupted(record, config):
        signal.raise_signal(signal.SIGINT)
        return []

    monkeypatch.setattr("rotvq.cli.progress.epoch_lines", interrupted)
    answer = rotvq("train", *tiny, "--out", out)
    assert (answer.status, answer.err) == (130, "")
    assert "everything is saved" in answer.out
    command = shlex.split(answer.out.strip().splitlines()[-1].partition("Continue with: ")[2])
    assert command == ["rotvq", "train", "--out", str(out), "--resume"]


def test_a_collapse_is_reported_once(rotvq, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rotvq.training.epoch.warning", lambda history, config: "It collapses.")
    answer = rotvq("train", *tiny, "--training.epochs", 3, "--out", tmp_path / "run")
    assert (answer.status, answer.out.count("It collapses.")) == (0, 1)


# ---------------------------------------------------------------------- from a saved model


def test_from_takes_the_models_network_and_quantizer_and_options_win(trained):
    model = read_config(trained)
    words = ["--preset", "best", "--from", trained, "--quantizer.estimator", "straight_through"]
    config = config_of(*words)
    assert config.model == model.model
    assert config.quantizer.codebook_size == model.quantizer.codebook_size
    assert config.quantizer.estimator == "straight_through"
    assert config.training.learning_rate == PRESETS["best"].training.learning_rate
    assert config.training.init_from == str(trained)
    assert config_of("--training.init_from", "null") == Config()


def test_without_a_preset_a_run_from_a_model_has_the_defaults_of_fine_tuning(trained):
    config = config_of("--from", trained, "--data", "mine")
    assert config.training == replace(FINETUNE.training, init_from=str(trained))
    assert config.data == replace(FINETUNE.data, source="mine")
    assert config.training.learning_rate < PRESETS["best"].training.learning_rate


def test_a_run_and_its_saved_model_give_the_same_configuration(trained, tmp_path):
    VQVAE.from_pretrained(trained).save_pretrained(tmp_path / "saved")
    run, saved = (config_of("--from", each) for each in (trained, tmp_path / "saved"))
    assert (run.model, run.quantizer) == (saved.model, saved.quantizer)


def test_a_run_does_not_replace_the_model_it_starts_from(rotvq, trained):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    words = ("train", "--from", trained, "--out", f"{trained}/../{trained.name}", "--overwrite")
    assert "expected a model outside --out; got the run in --out itself" in rotvq(*words).error
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_run_from_a_model_takes_other_sizes_and_its_command_can_be_repeated(
    rotvq, trained, make_images, tmp_path
):
    images = make_images(tmp_path / "others", {"train": 10, "test": 2}, 24, 12)
    words = ["train", "--data", images, "--from", trained, "--training.batch_size", 5]
    words += ["--training.epochs", 2, "--out", tmp_path / "new", "--resume"]
    assert rotvq(*words).status == 0
    before = outcome(tmp_path / "new")
    trained.rename(tmp_path / "gone")
    assert rotvq(*words).status == 0
    assert rotvq("train", "--out", tmp_path / "new", "--resume").status == 0
    assert outcome(tmp_path / "new") == before
    words[4] = tmp_path / "gone"
    assert "training.init_from: " in rotvq(*words).error, "another model is not passed over"


@pytest.mark.parametrize("name", ["nowhere", "no model here"])
def test_a_missing_model_is_one_line(rotvq, tiny, tmp_path, name):
    error = rotvq("train", *tiny, "--from", tmp_path / name, "--out", tmp_path / "run").error
    assert "expected the folder of a saved model" in error
    assert not (tmp_path / "run").exists()


def test_a_run_lists_the_images_that_it_skipped(rotvq, make_images, tiny, tmp_path):
    data = make_images(tmp_path / "data", {"train": 16, "test": 8})
    (data / "train" / "0003.png").write_bytes(b"damaged")
    (data / "train" / "notes.txt").touch()
    words = (*tiny, "--training.epochs", 1, "--out", tmp_path / "run")
    answer = rotvq("train", *words, "--data", data)
    assert answer.status == 0
    listed = tmp_path / "run" / "skipped.tsv"
    assert f"Skipped images are listed in {listed}." in answer.out
    assert listed.read_text().splitlines() == [
        "path\treason\tdetail",
        "train/notes.txt\tnot an image file\t",
        "train/0003.png\tnot an image of a known format\t",
    ]
    # Another run in the same folder, of whole data, has no list.
    assert rotvq("train", *words, "--overwrite").status == 0
    assert not listed.exists()
