"""rotvq prior and rotvq sample, from images to images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")

from rotvq import VQVAE, VectorQuantizer, load_tokens
from rotvq.cli.main import main
from rotvq.tokens.collection import Packer
from rotvq.tokens.file import save_tokens
from rotvq.tokens.model_codec import codec

TINY = (
    "--prior.width 16 --prior.depth 1 --prior.heads 2 --training.batch_size 8 --training.epochs 1 "
    "--training.learning_rate 0.01"
).split()


def save_model(folder: Path, seed: int) -> VQVAE:
    torch.manual_seed(seed)
    model = VQVAE(width=8, dim=8, depth=1, quantizer=VectorQuantizer(16, 8, channel_dim=1)).eval()
    model.save_pretrained(folder)
    return model


def write_tokens(path: Path, model: VQVAE, n: int, labels: bool = True) -> Path:
    packer, draw = Packer(codec(model)), np.random.default_rng(n)
    packer.add(
        draw.integers(16, size=(n, 4, 4)),
        (16, 16),
        labels=[i % 2 if labels else None for i in range(n)],
    )
    save_tokens(packer.tokens(), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, two token files and a finished prior."""
    folder = tmp_path_factory.mktemp("prior")
    model = save_model(folder / "model", 0)
    train = write_tokens(folder / "train.npz", model, 40)
    write_tokens(folder / "test.npz", model, 12)
    save_model(folder / "other", 1)
    words = ["prior", train, "--tokens.test", folder / "test.npz", "--model", folder / "model"]
    words += ["--tokens.classes", "cat,dog", "--out", folder / "run", *TINY]
    assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A finished prior, one's own to spoil."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def test_the_output_says_what_was_trained_and_how_to_go_on(rotvq, made, tmp_path):
    out = tmp_path / "run"
    done = rotvq("prior", made / "train.npz", "--out", out, *TINY)
    assert done.status == 0, done
    assert "36 training and 4 test images of 4x4 tokens, 16 codes, 2 classes." in done.out
    assert "4 of 40 images are held out" in done.out
    record = json.loads((out / "evaluation.json").read_text())["metrics"]
    assert f"{record['bits_per_token']:.3f} bits per token" in done.out
    assert f"rotvq sample {out} --model MODEL -n 64" in done.out


def test_the_run_of_the_tokens_model_is_not_replaced(rotvq, made, tmp_path):
    folder = Path(shutil.copytree(made / "run", tmp_path / "run"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for model in (folder, folder / "tokenizer"):
        words = ["--model", model, "--out", f"{folder}/../run", "--overwrite", *TINY]
        error = rotvq("prior", made / "train.npz", *words).error
        assert "--model" in error and "expected a model outside --out" in error
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_tokenizer_that_was_not_saved_to_the_end_is_missed(rotvq, made, run):
    (run / "tokenizer/config.json").unlink()
    train = ["prior", made / "train.npz", "--tokens.test", made / "test.npz", "--out", run]
    train += ["--tokens.classes", "cat,dog", *TINY, "--resume"]
    assert "tokenizer: expected the model of the tokens" in rotvq(*train).error
    assert "none was saved with the prior. Pass --model" in rotvq("sample", run, "-o", "x").error
    assert rotvq(*train, "--model", made / "model").status == 0
    assert (run / "tokenizer/config.json").exists()


def test_samples_are_pictures_a_grid_a_token_file_and_a_record(rotvq, made, tmp_path):
    out = tmp_path / "samples"
    done = rotvq("sample", made / "run", "-n", 5, "--guidance", 1.5, "--seed", 3, "-o", out)
    assert done.status == 0, done
    assert sorted(p.name for p in (out / "images").iterdir()) == [
        f"{n:06d}.png" for n in range(1, 6)
    ]
    tokens = load_tokens(out / "tokens.npz")
    assert tokens.labels == [0, 1, 0, 1, 0]
    decoded = rotvq("decode", out / "tokens.npz", "--model", made / "model", "-o", out / "again")
    assert decoded.status == 0, decoded
    for name in ("000001.png", "000005.png"):
        with Image.open(out / "images" / name) as one, Image.open(out / "again" / name) as other:
            assert np.array_equal(np.asarray(one), np.asarray(other))
    with Image.open(out / "grid.png") as grid:
        assert grid.size == (3 * 16 + 2 * 2, 2 * 16 + 2)
    record = json.loads((out / "samples.json").read_text())
    assert record["sampling"] == {
        "guidance": 1.5, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 3, "batch_size": 256,
    }  # fmt: skip


@pytest.mark.parametrize(("label", "expected"), [("dog", [1] * 3), ("0", [0] * 3), ("none", None)])
def test_a_class_is_chosen_by_name_or_number(rotvq, made, tmp_path, label, expected):
    out = tmp_path / "samples"
    assert rotvq("sample", made / "run", "-n", 3, "--label", label, "-o", out).status == 0
    assert load_tokens(out / "tokens.npz").labels == expected


def test_a_picture_is_completed_below_the_rows_that_are_kept(rotvq, made, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    words = ["--complete", tmp_path / "picture.png", "-n", 6]
    for keep, out in ((3, "three"), (None, "half"), (0, "none")):
        option = [] if keep is None else ["--keep-rows", keep]
        done = rotvq("sample", made / "run", *words, *option, "-o", tmp_path / out)
        assert done.status == 0, done
    done = rotvq("encode", tmp_path / "picture.png", "--model", made / "model", "-o",
                 tmp_path / "picture.npz")  # fmt: skip
    assert done.status == 0
    own = load_tokens(tmp_path / "picture.npz")[0]
    for out, keep in (("three", 3), ("half", 2), ("none", 0)):
        completed = np.stack([*load_tokens(tmp_path / out / "tokens.npz")])
        assert (completed[:, :keep] == own[:keep]).all()
        assert (completed[:, keep:] != completed[:1, keep:]).any()


def test_a_finished_run_is_resumed_for_more_epochs_without_naming_its_tokens(rotvq, run):
    done = rotvq("prior", "--out", run, "--resume", "--training.epochs", 2)
    assert done.status == 0, done
    assert len((run / "epochs.jsonl").read_text().splitlines()) == 2
    error = rotvq("prior", "--out", run, "--resume", "--prior.width", 32).error
    assert "prior.width: 16 → 32" in error


def test_a_resumed_run_saves_the_model_that_it_is_given(rotvq, made, tmp_path):
    words = ["prior", "--out", tmp_path / "run", *TINY]
    assert rotvq(*words, made / "train.npz").status == 0
    assert not (tmp_path / "run/tokenizer").exists()
    done = rotvq(*words, "--resume", "--model", made / "model")
    assert done.status == 0 and f"rotvq sample {tmp_path / 'run'} -n 64" in done.out
    assert rotvq("sample", tmp_path / "run", "-n", 1, "-o", tmp_path / "out").status == 0


def test_a_prior_over_grayscale_images_cannot_be_measured(rotvq, tmp_path, make_images):
    quantizer = VectorQuantizer(16, 8, channel_dim=1)
    model = VQVAE(channels=1, width=8, dim=8, depth=1, quantizer=quantizer).eval()
    model.save_pretrained(tmp_path / "model")
    train = write_tokens(tmp_path / "train.npz", model, 20)
    words = ["--model", tmp_path / "model", "--out", tmp_path / "run", *TINY]
    assert rotvq("prior", train, *words).status == 0
    (tmp_path / "classifier").mkdir()
    data = make_images(tmp_path / "data", {"train": 4, "test": 4})
    words = ["--measure", data, "--classifier", tmp_path / "classifier", "-o", tmp_path / "out"]
    error = rotvq("sample", tmp_path / "run", *words).error
    assert "--measure: expected a prior over color images" in error
    assert not (tmp_path / "out").exists()


def test_bad_options_of_prior_take_one_line(rotvq, made, tmp_path):
    train, out = made / "train.npz", tmp_path / "out"
    for words, expected in (
        ([tmp_path / "absent.npz"], "absent.npz: expected a token file"),
        ([], "tokens.train: expected a token file or a folder of shards; got none"),
        ([train, "--model", made / "other"], "--model: expected the model of these tokens"),
        ([train, "--prior.width", 30, "--prior.heads", 4], "prior.width: expected a multiple of"),
        ([train, "--tokens.classes", "cat"], "tokens.classes: expected 2 different names"),
        ([train, "--training.epochs", 0], "training.epochs: expected a positive number; got 0"),
        ([train, "--prior", "x"], "--prior: expected --prior.NAME VALUE"),
        ([train, "--nonsense"], "nonsense"),
    ):
        assert expected in rotvq("prior", *words, "--out", out).error, words
        assert not out.exists()
    assert "already holds a run" in rotvq("prior", train, "--out", made / "run").error
    other = write_tokens(tmp_path / "other.npz", VQVAE.from_pretrained(made / "other"), 12)
    error = rotvq("prior", train, "--tokens.test", other, "--out", out).error
    assert "tokens.test: expected tokens of model" in error


def test_bad_options_of_sample_take_one_line(rotvq, made, tmp_path):
    run, out = made / "run", tmp_path / "out"
    Image.new("RGB", (24, 16)).save(tmp_path / "wide.png")
    (tmp_path / "two").mkdir()
    for name in "ab":
        Image.new("RGB", (16, 16)).save(tmp_path / f"two/{name}.png")
    for words, expected in (
        ([tmp_path / "absent"], "absent: expected the folder of a prior"),
        ([made / "model"], '"format": "rotvq prior"; got \'rotvq model\''),
        ([run, "-n", 0], "--number: expected 1 or more; got 0"),
        ([run, "--label", "cow"], "label: expected one of cat, dog; got cow"),
        ([run, "--grid", "8x8"], "grid: expected one that the prior was trained on (4x4); got 8x8"),
        ([run, "--grid", "8"], "--grid: expected ROWSxCOLUMNS"),
        ([run, "--model", made / "other"], "--model: expected the model of these tokens"),
        ([run, "--temperature", 0], "temperature: expected above 0, to 100; got 0"),
        ([run, "--keep-rows", 2], "--keep-rows: expected --complete"),
        ([run, "--complete", tmp_path / "wide.png"], "(4x4); got 4x6"),
        ([run, "--complete", tmp_path / "absent.png"], "absent.png"),
        ([run, "--label", "none", "--guidance", 2], "guidance: expected 1 where no class is given"),
        ([run, "--complete", tmp_path / "two"], "two holds several. Pass the path of an image"),
        ([run, "--gfid"], "--gfid: expected --measure"),
        ([run, "--measure", tmp_path / "two", "-n", 1], "--measure: expected at least 2 images"),
    ):
        assert expected in rotvq("sample", *words, "-o", out).error, words
        assert not out.exists()


def test_a_search_finds_tokens_that_take_fewer_bits(rotvq, made, tmp_path):
    for n in range(3):
        pixels = np.random.default_rng(n).integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    words = ["encode", *sorted(tmp_path.glob("*.png")), "--model", made / "model"]
    prior, effort = ["--prior", made / "run"], ["--effort", 3]
    found, bits = {}, {}
    for name, options in (
        ("plain", []),
        ("searched", effort),
        ("first", prior),
        ("balanced", [*prior, *effort]),
        ("few", [*prior, *effort, "--rate-weight", 1e3]),
    ):
        done = rotvq(*words, *options, "-o", tmp_path / f"{name}.npz")
        assert done.status == 0, done
        found[name] = load_tokens(tmp_path / f"{name}.npz").packed
        told = re.search(r"  (\S+) bits per image under the prior", done.out)
        assert bool(told) == bool({"--prior"} & set(options))
        bits[name] = float(told[1]) if told else None
    assert found["plain"] == found["first"] and found["searched"] != found["few"]
    assert bits["few"] < bits["balanced"] and bits["few"] < bits["first"]


def test_bad_options_for_bits_take_one_line(rotvq, made, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "fits.png")
    Image.new("RGB", (24, 16)).save(tmp_path / "wide.png")
    fits, prior, effort = tmp_path / "fits.png", ["--prior", made / "run"], ["--effort", 1]
    out = tmp_path / "out.npz"
    for words, expected in (
        ([fits, "--rate-weight", 1, *effort], "--rate-weight: expected --prior and --effort"),
        ([fits, "--rate-weight", 1, *prior], "--rate-weight: expected --prior and --effort"),
        ([fits, "--rate-weight", -1, *prior, *effort], "rate weight: expected a finite number"),
        ([fits, *prior, "--shard-size", 2], "--prior: expected a single token file"),
        ([fits, *prior, "--levels", 1], "--prior: expected tokens of all levels"),
        ([fits, "--prior", made / "model"], "got 'rotvq model'"),
        ([fits, tmp_path / "wide.png", *prior], "wide.png: grid: expected one that the prior was"),
        ([tmp_path / "wide.png", *prior, *effort], "wide.png: grid: expected one that the prior"),
    ):
        error = rotvq("encode", *words, "--model", made / "model", "-o", out).error
        assert expected in error, words
        assert not out.exists()
    words = ["encode", fits, "--model", made / "other", *prior, "-o", out]
    assert "prior: expected one over the tokens of model" in rotvq(*words).error


def test_a_prior_without_labels_or_without_its_model_says_so(rotvq, made, tmp_path):
    model = VQVAE.from_pretrained(made / "model")
    train = write_tokens(tmp_path / "train.npz", model, 20, labels=False)
    done = rotvq("prior", train, "--out", tmp_path / "run", *TINY)
    assert "The tokens have no labels: the prior is unconditional." in done.out
    assert f"rotvq sample {tmp_path / 'run'} --model MODEL -n 64" in done.out
    error = rotvq("sample", tmp_path / "run", "-o", tmp_path / "out").error
    assert "none was saved with the prior. Pass --model." in error
    words = ["sample", tmp_path / "run", "--model", made / "model", "-o", tmp_path / "out"]
    assert "trained on tokens without labels; got 1" in rotvq(*words, "--label", 1).error
    assert rotvq(*words, "-n", 2).status == 0
    assert load_tokens(tmp_path / "out/tokens.npz").labels is None


def test_other_commands_name_a_prior_for_what_it_is(rotvq, made, tmp_path):
    for words in (["evaluate"], ["train", "--resume", "--out"]):
        assert "expected the run of a tokenizer" in rotvq(*words, made / "run").error
    encoded = rotvq("encode", "photos", "--model", made / "run", "-o", tmp_path / "x.npz")
    assert "got 'rotvq prior'" in encoded.error


def test_samples_are_measured_in_one_record(rotvq, made, tmp_path, make_images):
    from rotvq.evaluation.classifier import Classifier, save_classifier

    data = make_images(tmp_path / "data", {"train": 10, "test": 6})
    (tmp_path / "classifier").mkdir()
    save_classifier(tmp_path / "classifier", Classifier(2, (4, 8)), {})
    words = ["--measure", data, "--classifier", tmp_path / "classifier", "-o", tmp_path / "out"]
    done = rotvq("sample", made / "run", "-n", 8, *words)
    assert done.status == 0, done
    record = json.loads((tmp_path / "out/samples.json").read_text())
    assert f"in {record['sampling_seconds']:.1f} s" in done.out
    assert {"classifier_frechet_distance", "class_accuracy", "nearest_pixels"} <= set(
        record["metrics"]
    )
    assert record["samples"] == 8 and record["reference"] == {"split": "test", "images": 6}
    assert (tmp_path / "out/nearest.png").is_file()
    larger = make_images(tmp_path / "larger", {"train": 4, "test": 6}, 40, 48)
    words[1], words[-1] = larger, tmp_path / "out2"
    assert rotvq("sample", made / "run", "-n", 4, *words).status == 0
    words[3], words[-1] = tmp_path / "absent", tmp_path / "out3"
    assert "Train the classifier again" in rotvq("sample", made / "run", *words).error
    assert not (tmp_path / "out3").exists()  # refused before anything is drawn


def test_a_report_shows_bits_and_samples(rotvq, run, trained):
    assert rotvq("report", run).status == 0
    page = (run / "report.md").read_text(encoding="utf-8")
    metrics = json.loads((run / "evaluation.json").read_text())["metrics"]
    assert f"| Bits per token under the prior | {metrics['bits_per_token']:.3f} |" in page
    assert "A prior over tokens (1 layer of width 16, 1 epoch) trained on train.npz" in page
    for heading, shown in (("Samples", 1), ("Curves", 1), ("Reconstructions", 0), ("Codebook", 0)):
        assert (f"{heading}\n" in page) == bool(shown), heading
    with Image.open(run / "figures/samples-1.png") as picture:
        assert picture.size == (4 * (8 * 16 + 7 * 2),) * 2
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "Samples</h2>" in html and "Codebook</h2>" not in html
    assert "got both" in rotvq("report", run, trained, "--out", run.parent / "both").error
