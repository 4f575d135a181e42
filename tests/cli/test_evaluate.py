"""rotvq evaluate."""

from __future__ import annotations

import json

import pytest
import torch

from rotvq.model import VQVAE
from rotvq.names import DEFAULT_EFFORT
from rotvq.report import tiles
from rotvq.run_record import load_run


def read(path):
    return json.loads(path.read_text())


def test_the_test_split_again_gives_the_runs_own_record(rotvq, trained):
    before = read(trained / "evaluation.json")
    answer = rotvq("evaluate", trained)
    assert (answer.status, answer.err) == (0, "")
    after = read(trained / "evaluation.json")
    assert after["metrics"] == pytest.approx(before["metrics"], rel=1e-6)
    assert after["counts"] == before["counts"]
    assert "test, 12 images: MSE" in answer.out
    uniform = after["metrics"]["ssim_uniform_7x7"]
    assert f"({uniform:.4f} with a uniform 7x7 window)" in answer.out


def test_the_training_split_has_a_record_of_its_own(rotvq, trained):
    before = (trained / "evaluation.json").read_bytes()
    answer = rotvq("evaluate", trained, "--split", "train", "--batch-size", 7)
    assert answer.status == 0
    record = read(trained / "evaluation-train.json")
    assert (record["split"], record["images"]) == ("train", 40)
    assert sum(record["counts"]) == 40 * 16
    assert (trained / "evaluation.json").read_bytes() == before


def test_the_batch_size_does_not_matter(rotvq, trained, tmp_path):
    for size in (1, 12):
        out = tmp_path / f"{size}.json"
        assert rotvq("evaluate", trained, "--batch-size", size, "--out", out).status == 0
    one, all_ = read(tmp_path / "1.json"), read(tmp_path / "12.json")
    assert one["metrics"] == pytest.approx(all_["metrics"], rel=1e-5)


def test_other_data_goes_to_a_file_of_its_own(rotvq, trained, tmp_path, make_images):
    other = make_images(tmp_path / "others", {"train": 3, "test": 5}, 24, 16)
    assert "--out" in rotvq("evaluate", trained, "--data", other).error
    out = tmp_path / "new/folder/others.json"
    answer = rotvq("evaluate", trained, "--data", other, "--out", out)
    assert answer.status == 0
    record = read(out)
    assert (record["data"], record["images"]) == ("others", 5)
    assert sum(record["counts"]) == 5 * 24
    assert read(trained / "evaluation.json")["images"] == 12


def test_a_saved_model_is_measured_like_the_run_that_trained_it(
    rotvq, trained, tmp_path, make_images
):
    other = make_images(tmp_path / "others", {"train": 3, "test": 5}, 24, 16)
    saved, words = tmp_path / "saved", ["--data", other, "-o"]
    VQVAE.from_pretrained(trained).save_pretrained(saved)
    error = rotvq("evaluate", saved).error
    assert "--data: expected images" in error and str(saved) in error
    records = []
    for model, out in ((trained, tmp_path / "run.json"), (saved, tmp_path / "saved.json")):
        assert rotvq("evaluate", model, *words, out).status == 0
        records.append(read(out))
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["counts"] == records[1]["counts"]


def test_a_bundled_model_is_measured_on_images_of_a_size(rotvq, tmp_path, make_images):
    data = make_images(tmp_path / "data", {"train": 1, "test": 3}, 40, 48)
    out = tmp_path / "out.json"
    assert "--data: expected images" in rotvq("evaluate", "rotvq-f4").error
    assert "--size: expected --data" in rotvq("evaluate", "rotvq-f4", "--size", 32).error
    bad = rotvq("evaluate", "rotvq-f4", "--data", data, "--size", "big", "-o", out).error
    assert "big" in bad and not out.exists()
    assert rotvq("evaluate", "rotvq-f4", "--data", data, "--size", 32, "-o", out).status == 0
    assert sum(read(out)["counts"]) == 3 * 64
    assert read(out)["metrics"]["bits_per_image"] == 640


def test_changed_images_are_refused(rotvq, trained, tmp_path, make_images):
    other = make_images(tmp_path / "others", {"train": 40, "test": 11})
    config = (trained / "config.yaml").read_text()
    source = next(line for line in config.splitlines() if "source:" in line)
    (trained / "config.yaml").write_text(config.replace(source, f"  source: {other}"))
    before = (trained / "evaluation.json").read_bytes()
    error = rotvq("evaluate", trained).error
    assert "the run's own test images" in error
    assert "--resume" not in error, "that is another verb's option"
    assert (trained / "evaluation.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--split", "validation"], "'validation'"),
        (["--batch-size", "0"], "--batch-size"),
        (["--batch-size", "x"], "--batch-size"),
        (["--effort", "10"], "--effort"),
        (["--effort", "2.0"], "--effort"),
        (["--tune", "psnr"], "--tune: expected --effort"),
        (["--tune", "ssim", "--effort"], "--tune: expected --out"),
        (["--data", "nowhere/at/all.zip", "--out", "x.json"], "nowhere/at/all.zip"),
    ],
)
def test_bad_options_are_one_line(rotvq, trained, words, named):
    assert named in rotvq("evaluate", trained, *words).error


def test_a_folder_without_a_run_is_refused(rotvq, tmp_path):
    assert str(tmp_path) in rotvq("evaluate", tmp_path).error
    assert "nowhere" in rotvq("evaluate", tmp_path / "nowhere").error
    assert "model" in rotvq("evaluate").error


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"data: ["),
        ("config.yaml", b"\xff\xff"),
        ("run.json", b"{"),
        ("model.safetensors", b"cut off"),
        ("model.safetensors", None),
        ("run.json", None),
    ],
)
def test_a_damaged_run_is_one_line(rotvq, trained, name, content):
    before = (trained / "evaluation.json").read_bytes()
    if content is None:
        (trained / name).unlink()
    else:
        (trained / name).write_bytes(content)
    assert name in rotvq("evaluate", trained).error
    assert (trained / "evaluation.json").read_bytes() == before


def test_images_that_do_not_halve_are_one_line(rotvq, trained, tmp_path, make_images):
    other = make_images(tmp_path / "others", {"train": 2, "test": 2}, 18, 16)
    error = rotvq("evaluate", trained, "--data", other, "--out", tmp_path / "a.json").error
    assert "divisible by 4; got 18x16" in error
    assert not (tmp_path / "a.json").exists()


def test_evaluation_leaves_the_run_as_it_was(rotvq, trained):
    names = ("checkpoint.pt", "model.safetensors", "epochs.jsonl", "run.json", "config.yaml")
    before = {name: (trained / name).read_bytes() for name in names}
    torch.manual_seed(99)
    assert rotvq("evaluate", trained).status == 0
    assert {name: (trained / name).read_bytes() for name in names} == before


@pytest.mark.parametrize("effort", [0, 1])
def test_perceptual_metrics_of_the_tokens_found(rotvq, trained, tmp_path, monkeypatch, effort):
    from rotvq.evaluation import perceptual

    class Metrics:
        def __init__(self, networks, images):
            self.networks, self.images, self.squares = networks, images, []

        def add(self, x, reconstruction):
            self.squares += (reconstruction - x).square().mean((1, 2, 3)).tolist()

        def compute(self):
            assert len(self.squares) == self.images
            return {name: sum(self.squares) / self.images for name in self.networks}

    monkeypatch.setattr(perceptual, "network", lambda name, path: path)
    monkeypatch.setattr(perceptual, "PerceptualMetrics", Metrics)
    out = tmp_path / "e.json"
    words = ("--rfid", "inception.pt", "--out", out, "--effort", effort)
    answer = rotvq("evaluate", trained, *words)
    assert (answer.status, answer.err) == (0, "")
    record = json.loads(out.read_text())
    mse = record["metrics"]["mse"]
    assert record["metrics"]["rfid"] == pytest.approx(mse)
    assert f"rfid {mse:.4f}: Fréchet distance of Inception features" in answer.out
    assert "rfid" in record["protocol"] and "lpips" not in record["protocol"]
    monkeypatch.undo()
    missing = ("--lpips", tmp_path / "none.pt")
    assert "there is no" in rotvq("evaluate", trained, *missing).error


@pytest.mark.parametrize("content", ["precious", "[1]", "{}", None])
def test_a_file_that_is_not_a_record_is_not_replaced(rotvq, trained, tmp_path, content):
    out = tmp_path / "keep.json"
    if content is None:
        out.mkdir()
    else:
        out.write_text(content)
    answer = rotvq("evaluate", trained, "--out", out)
    assert answer.status == 2 and "which is neither" in answer.err
    if content is None:
        assert list(out.iterdir()) == []
    else:
        assert out.read_text() == content


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation-effort-4.json", "run.json"])
def test_the_record_of_a_run_is_not_replaced_by_that_of_other_images(rotvq, trained, images, name):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    error = rotvq("evaluate", "rotvq-f8", "--data", images, "-o", trained / name).error
    assert "expected another file than the records of a run" in error
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def _error(pairs):
    (first, *_), (drawn, *_) = pairs
    return ((first.astype(float) - drawn) ** 2).mean()


def test_a_search_has_records_of_its_own(rotvq, trained):
    before = (trained / "evaluation.json").read_bytes()
    answer = rotvq("evaluate", trained, "--effort", 2)
    assert (answer.status, answer.err) == (0, "")
    assert "evaluation-effort-2.json" in answer.out
    run = load_run(trained)
    effort, searched = tiles.best_searched(run)
    before_search = tiles.last_pairs(run)
    assert effort == 2 and list(run.searched) == [2]
    assert tiles.are_same(searched.originals, before_search.originals)
    assert _error(searched) < _error(before_search)
    assert rotvq("evaluate", trained, "--split", "train", "--effort").status == 0
    assert (trained / "evaluation.json").read_bytes() == before
    plain, test = json.loads(before), read(trained / "evaluation-effort-2.json")
    train = read(trained / f"evaluation-train-effort-{DEFAULT_EFFORT}.json")
    assert (test["effort"], test["split"], test["images"]) == (2, "test", 12)
    assert (train["effort"], train["split"], train["images"]) == (DEFAULT_EFFORT, "train", 40)
    assert test["metrics"]["mse"] <= plain["metrics"]["mse"]
    assert "effort" not in plain and "effort" not in plain["protocol"]


def test_a_tuned_search_is_no_record_of_the_run(rotvq, trained, tmp_path):
    before = {path.name for path in trained.rglob("*")}
    words = ("evaluate", trained, "--effort", 2, "--tune", "ssim", "-o", tmp_path / "tuned.json")
    assert rotvq(*words).status == 0
    assert "0.03 (1 - SSIM)" in read(tmp_path / "tuned.json")["protocol"]["error"]
    assert {path.name for path in trained.rglob("*")} == before


def test_accuracies_need_the_classes_of_the_classifier(rotvq, trained, tmp_path, make_images):
    for folder, names in (("same", "ab"), ("other", "bc")):
        for name in names:
            make_images(tmp_path / "made" / folder / name, {"train": 6, "test": 3})
            for split in ("train", "test"):
                to = tmp_path / folder / split / name
                to.parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "made" / folder / name / split).rename(to)
    words = ["--data", tmp_path / "same", "--width", 2, "--out", tmp_path / "classifier"]
    assert rotvq("classifier", *words).status == 0
    found = {}
    for folder in ("same", "other"):
        words = ["--data", tmp_path / folder, "--classifier", tmp_path / "classifier"]
        answer = rotvq("evaluate", trained, *words, "-o", tmp_path / f"{folder}.json")
        assert answer.status == 0
        assert ("has other classes than the images" in answer.out) == (folder == "other")
        found[folder] = read(tmp_path / f"{folder}.json")["metrics"]
    assert "accuracy_original" in found["same"] and "agreement" in found["other"]
    assert not any(name.startswith("accuracy") for name in found["other"])
