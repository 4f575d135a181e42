"""rotvq classifier: what it refuses, what it leaves, and that it trains once."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rotvq.cli.main import main
from rotvq.data_processing import load
from rotvq.evaluation.classifier import Classifier, load_classifier
from rotvq.evaluation.classifier_metrics import measure, originals
from rotvq.training.build import load_model

EPOCHS = 8
TINY = (
    "--model.width 8 --model.dim 8 --model.depth 1 --quantizer.codebook_size 16 "
    "--training.batch_size 8 --training.epochs 1"
)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def write_labeled(folder, seed=0):
    """Parquet files of 48 training and 30 test images of 8x8: the class is the brightest color."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    for split, n in (("train", 48), ("test", 30)):
        labels = random.integers(0, 3, n)
        images = random.integers(0, 100, (n, 8, 8, 3))
        images[np.arange(n), :, :, labels] += 120
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        cells = pa.array([png(image) for image in images.astype(np.uint8)], kind)
        table = pa.table({"img": cells, "label": labels})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    return write_labeled(tmp_path_factory.mktemp("data") / "colors")


@pytest.fixture(scope="module")
def trained(labeled, tmp_path_factory):
    """A folder with a classifier, to look at."""
    out = tmp_path_factory.mktemp("classifier") / "made" / "here"
    assert main(["classifier", "--data", str(labeled), "--seed", "3", "--out", str(out)]) == 0
    return out


def content(folder):
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seed", "-1"], "--seed: expected 0 to 2147483647; got -1"),
        (["--seed", str(2**31)], f"--seed: expected 0 to 2147483647; got {2**31}"),
        (["--seed", "one"], "--seed"),
        (["--width", "0"], "--width: expected 1 to 64; got 0"),
        (["--width", "65"], "--width: expected 1 to 64; got 65"),
        (["--data", "nonsense"], "nonsense"),
        (["--data", "nowhere/at/all.zip"], "nowhere/at/all.zip"),
        (["stray"], "stray"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(rotvq, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    assert named in rotvq("classifier", *words).error
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_one_line(rotvq, labeled, tmp_path):
    (tmp_path / "file").write_text("mine")
    words = ("--data", labeled, "--out", tmp_path / "file")
    assert "--out: expected a folder" in rotvq("classifier", *words).error
    assert (tmp_path / "file").read_text() == "mine"


def test_images_without_labels_are_one_line_and_leave_nothing(rotvq, images, tmp_path):
    error = rotvq("classifier", "--data", images, "--out", tmp_path / "out").error
    assert "expected images with labels; got none" in error
    assert not (tmp_path / "out").exists()


def test_the_command_writes_weights_and_their_record(labeled, trained):
    assert [path.name for path in sorted(trained.iterdir())] == [
        "classifier.json",
        "classifier.safetensors",
    ]
    data, record = load(str(labeled)), json.loads((trained / "classifier.json").read_text())
    expected = {
        "classes": 3,
        "widths": list(Classifier(3).widths),
        "train_images": 48,
        "train_fingerprint": data.train.fingerprint(),
        "test_images": 30,
        "seed": 3,
        "epochs": EPOCHS,
        "weights": hashlib.sha256((trained / "classifier.safetensors").read_bytes()).hexdigest(),
    }
    assert {name: record[name] for name in expected} == expected
    assert record["accuracy"] * 30 == pytest.approx(round(record["accuracy"] * 30))


def test_the_seed_decides_the_weights(rotvq, labeled, trained, tmp_path):
    for seed in (3, 4):
        words = ("--data", labeled, "--seed", seed, "--out", tmp_path / str(seed))
        answer = rotvq("classifier", *words)
        assert (answer.status, answer.err) == (0, "")
        assert f"seed {seed}). Saved to {tmp_path / str(seed)}." in answer.out
    weights = [(tmp_path / name / "classifier.safetensors").read_bytes() for name in "34"]
    assert weights[0] == (trained / "classifier.safetensors").read_bytes() != weights[1]


def test_an_existing_classifier_is_not_trained_again(rotvq, labeled, trained, monkeypatch):
    monkeypatch.setattr("rotvq.studies.classifier.train_classifier", None)
    before = content(trained)
    words = ("classifier", "--data", labeled, "--out", trained)
    answer = rotvq(*words, "--seed", 3)
    assert (answer.status, answer.err) == (0, "")
    assert f"after {EPOCHS} epochs" in answer.out and "seed 3)" in answer.out
    assert "expected a classifier trained with seed 4" in rotvq(*words, "--seed", 4).error
    error = rotvq(*words, "--seed", 3, "--width", 8).error
    assert "expected a classifier trained with width 8; got one with width 32" in error
    assert content(trained) == before


def test_a_classifier_of_other_images_is_refused(rotvq, trained, tmp_path):
    before = content(trained)
    other = write_labeled(tmp_path / "other", seed=1)
    error = rotvq("classifier", "--data", other, "--out", trained).error
    assert "trained on others" in error and str(trained) in error
    assert content(trained) == before


@pytest.fixture(scope="module")
def sharp(labeled, trained, tmp_path_factory):
    """A run with the perceptual loss of another classifier, as `train --help` has it."""
    folder = tmp_path_factory.mktemp("sharp")
    network = folder / "perceptual"
    words = ["--data", str(labeled), "--seed", "1", "--width", "4", "--out", str(network)]
    assert main(["classifier", *words]) == 0
    words = f"--data {labeled} {TINY} --training.perceptual {network} --out {folder / 'run'}"
    words += " --training.perceptual_weight 0.1 --training.adversarial_weight 0.1"
    assert main(["train", *words.split()]) == 0
    return folder / "run"


def test_the_width_decides_the_channels_of_each_stage(sharp):
    record = json.loads((sharp.parent / "perceptual/classifier.json").read_text())
    assert (record["seed"], record["widths"]) == (1, [4, 8, 16])


def test_a_run_is_evaluated_with_another_classifier_than_it_was_trained_with(
    rotvq, labeled, trained, sharp, tmp_path
):
    answer = rotvq("evaluate", sharp, "--classifier", trained, "--out", tmp_path / "e.json")
    assert (answer.status, answer.err) == (0, "")
    assert "frechet_distance" in answer.out
    record = json.loads((tmp_path / "e.json").read_text())
    assert (record["classifier"]["seed"], record["perceptual"]["seed"]) == (3, 1)
    assert record["classifier"]["widths"] == [32, 64, 128]
    images = torch.from_numpy(load(str(labeled)).test.images)
    labels = torch.from_numpy(load(str(labeled)).test.labels)
    classifier = load_classifier(trained)
    reference = originals(classifier, images)
    expected = measure(load_model(sharp), classifier, reference, images, labels)["metrics"]
    assert {name: record["metrics"][name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert expected.keys() < record["protocol"].keys() | {*expected}
    error = rotvq("evaluate", sharp, "--classifier", sharp.parent / "perceptual").error
    assert "expected another classifier than the one of the run's perceptual loss" in error
    error = rotvq("evaluate", sharp, "--classifier", tmp_path).error
    assert "expected classifier.safetensors and classifier.json" in error


def test_a_preset_without_its_network_says_how_to_make_it(rotvq, labeled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--preset", "sharp", "--data", labeled, "--out", tmp_path / "run")
    error = rotvq("train", *words).error
    assert "rotvq classifier --seed 1 --width 24 --out perceptual" in error
    assert not (tmp_path / "run").exists()
