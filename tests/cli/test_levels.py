"""--levels: one residual model at several bitrates, on the command line."""

from __future__ import annotations

import json

import pytest

from rotvq.cli.main import main
from rotvq.tokens.file import load_tokens
from rotvq.tokens.shards import finished

OPTIONS = (
    "--model.width 8 --model.dim 8 --model.depth 1 --training.batch_size 8 --training.epochs 1 "
    "--quantizer.codebook_size 16 --quantizer.init data "
    "--quantizer.residual 3 --quantizer.dropout 0.5"
).split()


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("residual") / "run"
    assert main(["train", "--data", str(images), *OPTIONS, "--out", str(folder)]) == 0
    return folder


def pngs(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("**/*.png"))
    }


def test_an_evaluation_lists_every_number_of_levels(rotvq, run):
    answer = rotvq("evaluate", run)
    record = json.loads((run / "evaluation.json").read_text())
    rows = record["levels"]
    assert [row["levels"] for row in rows] == [1, 2, 3]
    assert [row["bits_per_image"] for row in rows] == [16 * 4, 16 * 8, 16 * 12]
    last = {name: value for name, value in rows[-1].items() if name != "levels"}
    assert last == {name: record["metrics"][name] for name in last}
    assert "levels" in record["protocol"]
    for row in rows:
        assert f"{row['mse']:.5f}  {row['psnr']:>5.2f} dB  {row['ssim']:.4f}" in answer.out


def test_levels_of_files_and_images(rotvq, run, images, tmp_path):
    options = ("--model", run)
    answer = rotvq("encode", images, *options, "-o", tmp_path / "all.npz")
    assert "12 bits per token" in answer.out
    answer = rotvq("encode", images, *options, "--levels", 2, "-o", tmp_path / "two.npz")
    assert "8 bits per token" in answer.out
    assert load_tokens(tmp_path / "two.npz").codec.index_shape == (2,)
    rotvq("decode", tmp_path / "all.npz", *options, "--levels", 2, "-o", tmp_path / "a")
    rotvq("decode", tmp_path / "two.npz", *options, "-o", tmp_path / "b")
    rotvq("decode", tmp_path / "all.npz", *options, "-o", tmp_path / "c")
    answer = rotvq("reconstruct", images, *options, "--levels", 2, "-o", tmp_path / "d")
    assert "0.500 bits per pixel" in answer.out
    a, b, c, d = (pngs(tmp_path / name) for name in "abcd")
    assert len(a) == 52 and a == b == d and a != c


def test_shards_of_the_first_levels(rotvq, run, images, tmp_path):
    words = ("encode", images, "--model", run, "--shard-size", 40, "--workers", 0)
    assert "4 bits per token" in rotvq(*words, "--levels", 1, "-o", tmp_path / "s").out
    assert len([*finished(tmp_path / "s")]) == 2
    assert "same model" in rotvq(*words, "--levels", 2, "-o", tmp_path / "s").error
    assert "52 images" in rotvq("decode", tmp_path / "s", "--model", run, "-o", tmp_path / "d").out


@pytest.mark.parametrize("number", [0, 4])
def test_levels_out_of_range_are_refused(rotvq, run, images, tmp_path, number):
    rotvq("encode", images, "--model", run, "-o", tmp_path / "t.npz")
    out = ("--model", run, "--levels", number, "-o", tmp_path / "new")
    message = f"levels: expected 1 to 3; got {number}."
    for words in (
        ("encode", images, "--shard-size", 40),
        ("reconstruct", images),
        ("decode", tmp_path / "t.npz"),
    ):
        assert message in rotvq(*words, *out).error
    assert not pngs(tmp_path)


def test_a_model_without_levels(rotvq, trained, images, tmp_path):
    answer = rotvq("encode", images, "--model", trained, "--levels", 2, "-o", tmp_path / "t.npz")
    assert "levels: expected 1; got 2. The model's quantizer is not residual." in answer.error
    assert not (tmp_path / "t.npz").exists()
