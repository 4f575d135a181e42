"""rotvq encode --shard-size and rotvq decode DIR."""

from __future__ import annotations

import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from rotvq import TokenDataset
from rotvq.cli.terminal import Terminal
from rotvq.model import VQVAE
from rotvq.tokens.file import KINDS, load_tokens


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("model")
    VQVAE(width=8, dim=8, depth=1).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven images, the fourth damaged, the last in two folders below."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "z" / "z").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(7):
        name = f"{number}.png" if number < 6 else "z/z/6.png"
        Image.fromarray(draw.integers(0, 256, (16, 12, 3), np.uint8)).save(folder / name)
    (folder / "3.png").write_bytes(b"no image")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [suffix[1:] for suffix in KINDS])
def test_shards_are_encoded_and_decoded(rotvq, model, photos, tmp_path, kind):
    options = ("--model", model, "-o")
    shards = (*options, tmp_path / "t", "--shard-size", 3, "--format", kind, "--workers", 0)
    answer = rotvq("encode", photos, *shards)
    assert (answer.status, answer.err) == (0, "")
    assert "Encoded 6 images in" in answer.out and "10 bits per token" in answer.out
    assert "1 skipped: not an image of a known format, first 3.png" in answer.out
    assert f"Skipped images are listed in {tmp_path / 't'}/*.skipped.tsv." in answer.out
    assert f"{tmp_path / 't'} holds 6 images in 3 shards" in answer.out
    assert {*contents(tmp_path / "t")} == {
        "index.json",
        f"tokens-00000-of-00003.{kind}",
        "tokens-00001-of-00003.skipped.tsv",
        f"tokens-00001-of-00003.{kind}",
        f"tokens-00002-of-00003.{kind}",
    }
    assert rotvq("encode", photos, *options, tmp_path / f"whole.{kind}").status == 0
    whole = load_tokens(tmp_path / f"whole.{kind}")
    found = [*TokenDataset(tmp_path / "t")]
    assert [name for _, _, name in found] == whole.names
    assert all(np.array_equal(a[0], b) for a, b in zip(found, whole, strict=True))
    for name in (f"whole.{kind}", "t"):
        answer = rotvq("decode", tmp_path / name, *options, tmp_path / f"{name}-png")
        assert (answer.status, answer.err) == (0, "") and "Decoded 6 images to" in answer.out
    for path in (tmp_path / f"whole.{kind}-png").rglob("*.png"):
        other = tmp_path / "t-png" / path.relative_to(tmp_path / f"whole.{kind}-png")
        assert path.read_bytes() == other.read_bytes()


def test_the_same_command_continues(rotvq, model, photos, tmp_path):
    command = ("encode", photos, "--model", model, "-o", tmp_path, "--shard-size", 3)
    assert rotvq(*command, "--workers", 1).status == 0
    before = contents(tmp_path)
    (tmp_path / "tokens-00001-of-00003.safetensors").unlink()
    answer = rotvq(*command, "--workers", 0)
    assert (answer.status, answer.err) == (0, "")
    assert "2 of 3 shards are done already." in answer.out and "Encoded 2 images" in answer.out
    assert "1 skipped" in answer.out and contents(tmp_path) == before
    answer = rotvq(*command)
    assert "3 of 3 shards are done already." in answer.out and "holds 6 images" in answer.out
    (tmp_path / "tokens-00002-of-00003.safetensors").unlink()
    answer = rotvq("decode", tmp_path, "--model", model, "-o", tmp_path / "d")
    assert answer.status == 2 and "Run the same rotvq encode again" in answer.err


def test_processes_share_the_shards(rotvq, model, photos, tmp_path, monkeypatch):
    command = ("encode", photos, "--model", model, "--shard-size", 3, "--workers", 0, "-o")
    assert rotvq(*command, tmp_path / "one").status == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    answers = {}
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        answers[rank] = rotvq(*command, tmp_path / "two")
        assert answers[rank].status == 0
    assert answers["1"].out == "" and "Encoded 4 images" in answers["0"].out
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    "changes, message",
    [
        (("--shard-size", "0"), "--shard-size: expected 1 or more; got 0"),
        (("--shard-size", "3", "--workers", "-1"), "--workers: expected 0 or more; got -1"),
        (("--shard-size", "3", "-o", "t.npz"), "--out: expected a folder, with --shard-size; got"),
        (("-o", "t.npz", "--workers", "2"), "--workers: expected together with --shard-size"),
        (("-o", "t.npz", "--format", "npz"), "--workers: expected together with --shard-size"),
        (("-o", "t"), "To write a folder of shards, pass --shard-size"),
        (("--shard-size", "4"), "shard_size 3 instead of 4. Choose another --out, or replace"),
        (("--shard-size", "3", "--effort", "1"), "effort 0 instead of 1"),
        (("--shard-size", "3", "--bits", "12"), "source "),
        (("--shard-size", "3", "--size", "16"), "source "),
    ],
)
def test_what_does_not_fit_is_refused(
    rotvq, model, photos, tmp_path, changes, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    command = ("encode", photos, "--model", model, "-o", "there")
    assert rotvq(*command, "--shard-size", 3, "--workers", 0).status == 0
    before = contents(tmp_path / "there")
    answer = rotvq(*command, *changes)
    assert answer.status == 2 and message in answer.err and len(answer.err.splitlines()) == 1
    assert contents(tmp_path / "there") == before


def test_overwrite_replaces_the_shards(rotvq, model, photos, tmp_path):
    command = ("encode", photos, "--model", model, "-o", tmp_path, "--workers", 0)
    assert rotvq(*command, "--shard-size", 3).status == 0
    assert rotvq(*command, "--shard-size", 5, "--overwrite").status == 0
    assert len(contents(tmp_path)) == 1 + 2 + 1 and len(TokenDataset(tmp_path)) == 6


def test_only_unreadable_images_are_an_error(rotvq, model, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.png").touch()
    command = ("encode", tmp_path / "a", "--model", model, "-o", tmp_path / "t", "--workers", 0)
    answer = rotvq(*command, "--shard-size", 3)
    assert answer.status == 2 and "expected readable images; found none: 1 skipped" in answer.err


def test_the_progress_line_tells_speed_time_left_and_bits(monkeypatch, capsys):
    monkeypatch.setattr("rotvq.cli.terminal.LINE_EVERY", 0)
    terminal = Terminal()
    with terminal.counting(400, "encoding", lambda: "0.625 bits per pixel") as advance:
        advance(100)
    line = capsys.readouterr().out.strip()
    assert line.startswith("encoding: 100 of 400 images, ") and " left, 0.625 bits" in line


def test_parquet_shards_open_elsewhere(rotvq, model, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    command = ("encode", photos, "--model", model, "-o", tmp_path / "t", "--workers", 0)
    assert rotvq(*command, "--shard-size", 3, "--format", "parquet").status == 0
    files = str(tmp_path / "t" / "*.parquet")
    cache = str(tmp_path / "cache")
    split = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    bits = np.unpackbits(np.frombuffer(split[3]["tokens"], np.uint8)).reshape(-1, 10)
    indices, _, name = TokenDataset(tmp_path / "t")[3]
    assert split[3]["name"] == name == "4.png" and (split[3]["height"], len(split)) == (16, 6)
    assert np.array_equal(indices.flatten(), bits @ (1 << np.arange(9, -1, -1)))


@pytest.mark.slow
def test_torchrun_shares_the_shards(rotvq, model, photos, tmp_path):
    command = ["encode", str(photos), "--model", str(model), "--shard-size", "2", "-o"]
    assert rotvq(*command, tmp_path / "one").status == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*launcher, "rotvq", *command, str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
