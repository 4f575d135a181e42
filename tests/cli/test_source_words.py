"""What a word for data means is the same to every command, and to people who look."""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from rotvq.tokens.file import load_tokens

SMALL = ("--preset", "smoke", "--training.batch_size", 8, "--training.epochs", 1)


def test_a_folder_is_read_and_not_the_embedded_data_of_its_name(
    rotvq, _trained, images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images / "train", "photos")
    answer = rotvq("train", *SMALL, "--data", "photos", "--out", "folder")
    assert answer.out.startswith("photos: 36 training and 4 test images, 3x16x16.")
    for out, words in {"default": (), "named": ("--data", "embedded:photos")}.items():
        answer = rotvq("train", *SMALL, *words, "--data.train_images", 16, "--out", out)
        assert answer.out.startswith("photo patches: 16 training"), answer
    sizes = {}
    for word in ("photos", "embedded:photos"):
        assert rotvq("encode", word, "--model", _trained, "-o", "t.npz", "--overwrite").status == 0
        sizes[word] = {*load_tokens(tmp_path / "t.npz").sizes}
    assert sizes == {"photos": {(16, 16)}, "embedded:photos": {(32, 32)}}


@pytest.mark.parametrize("bits", [12, None])
def test_twelve_bits(rotvq, images, tmp_path, bits):
    (tmp_path / "scans").mkdir()
    for path in (images / "train").iterdir():
        with Image.open(path) as opened:
            gray = np.asarray(opened.convert("L"))
        Image.fromarray(np.uint16(gray) * 16).save(tmp_path / "scans" / path.name)
    words = ("--data", tmp_path / "scans", "--model.channels", 1, "--out", tmp_path / "run")
    option = ("--data.bits", bits) if bits else ()
    answer = rotvq("train", *SMALL, *words, *option)
    assert answer.status == 0
    advice = re.search(r"no value above 4,095 come out dark.* pass (--data\.bits 12)", answer.out)
    assert (advice is None) == (bits is not None)
    out = ("--model", tmp_path / "run", "-o")
    answer = rotvq("reconstruct", tmp_path / "scans", *out, tmp_path / "r", "--bits", 12)
    assert answer.status == 0 and "dark" not in answer.out
    assert "1 to 16; got 17" in rotvq("train", *SMALL, *words, "--data.bits", 17).error
    answer = rotvq("reconstruct", tmp_path / "scans", *out, tmp_path / "s", "--bits", 17)
    assert "1 to 16; got 17" in answer.error


@pytest.mark.skipif(os.name == "nt", reason="paths are text there")
def test_paths_that_are_not_utf_8(rotvq, _trained, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, run, out = (os.fsdecode(name) for name in (b"caf\xe9", b"run\xe9", b"out\xe9"))
    shutil.copytree(images / "train", data)
    answer = rotvq("train", *SMALL, "--data", data, "--out", run)
    assert (answer.status, answer.err) == (0, "") and "caf\\udce9: 36 training" in answer.out
    words = ("train", *SMALL[:-1], 2, "--data", data, "--out", run, "--resume")
    assert rotvq(*words).status == 0
    for command in ("encode", "reconstruct"):
        name = f"{out}.npz" if command == "encode" else out
        answer = rotvq(command, data, "--model", _trained, "-o", name)
        assert (answer.status, answer.err) == (0, ""), command
    assert rotvq("decode", f"{out}.npz", "--model", _trained, "-o", f"{out}2").status == 0
    assert len(os.listdir(out)) == len(os.listdir(f"{out}2")) == 40


def test_terminal_escapes_in_names_are_shown_as_text(rotvq, _trained, tmp_path):
    folder = tmp_path / "esc\x1b[31m"
    folder.mkdir()
    (folder / "red\x1b]0;title\x07.png").write_bytes(b"no picture")
    for words in (
        ("encode", folder, "--model", _trained, "-o", tmp_path / "t.npz"),
        ("train", "--data", folder, "--out", tmp_path / "run"),
        ("train", "--data", "no\x1b[31m", "--out", tmp_path / "run"),
        ("encode", "no\x1b[31m.png", "--model", _trained, "-o", tmp_path / "t.npz"),
        ("evaluate", folder),
    ):
        error = rotvq(*words).error
        assert "\\x1b" in error and "\x1b" not in error


@pytest.mark.parametrize(
    "words",
    [
        ("reconstruct", "~nosuch/x.png", "-o", "out"),
        ("encode", "photos", "--model", "~nosuch/run", "-o", "t.npz"),
        ("train", "--from", "~nosuch/run", "--out", "run"),
    ],
)
def test_the_home_of_an_unknown_user_is_a_path_that_does_not_exist(
    rotvq, tmp_path, monkeypatch, words
):
    monkeypatch.chdir(tmp_path)
    answer = rotvq(*words)
    assert answer.status == 2 and "there is no such" in answer.error
