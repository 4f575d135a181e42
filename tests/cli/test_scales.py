"""Maps of increasing resolution, from training to samples of a prior, on the command line."""

from __future__ import annotations

import json

import pytest

from rotvq.cli.main import main
from rotvq.tokens.file import load_tokens

OPTIONS = (
    "--model.width 8 --model.dim 8 --model.depth 1 --training.batch_size 8 --training.epochs 1 "
    "--quantizer.codebook_size 16 --quantizer.init data "
    "--quantizer.scales 1,2,4 --quantizer.dropout 0.5"
).split()


@pytest.mark.slow
def test_from_training_to_samples(rotvq, images, tmp_path):
    run, file, prior = tmp_path / "run", tmp_path / "t.npz", tmp_path / "prior"
    assert main(["train", "--data", str(images), *OPTIONS, "--out", str(run)]) == 0
    rows = json.loads((run / "evaluation.json").read_text())["levels"]
    assert [row["bits_per_image"] for row in rows] == [4, 4 * 5, 4 * 21]
    assert json.loads((run / "run.json").read_text())["model"]["tokens"] == 21
    rotvq("encode", images, "--model", run, "--effort", 1, "-o", file)
    assert len(load_tokens(file).packed) == 52 * 11
    rotvq("decode", file, "--model", run, "--levels", 2, "-o", tmp_path / "decoded")
    small = "--prior.width 32 --prior.depth 1 --prior.heads 1 --training.epochs 1".split()
    rotvq("prior", file, *small, "--model", run, "--out", prior)
    assert (
        "Drew 2 images" in rotvq("sample", prior, "--model", run, "-n", 2, "-o", tmp_path / "s").out
    )
    assert len(load_tokens(tmp_path / "s" / "tokens.npz").packed) == 2 * 11
    some = next(images.glob("**/*.png"))
    answer = rotvq("sample", prior, "--model", run, "--complete", some, "-o", tmp_path / "c")
    assert "--complete: expected a prior of tokens row by row" in answer.error
    answer = rotvq("encode", images, "--model", run, "--prior", prior, "--effort", 1, "-o", "x.npz")
    assert "rate: expected a quantizer with a token for each position" in answer.error
