"""A folder of odd pictures, read as users do: each is read right, or passed over with a reason."""

from __future__ import annotations

import importlib.util
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rotvq.data_processing.decoding import Findings, decoded
from rotvq.data_processing.folder import images_below
from rotvq.data_processing.reader import of_files
from rotvq.data_processing.resizing import Target
from rotvq.text import printable
from rotvq.tokens.file import load_tokens

HERE = Path(__file__).parent


def module(path: Path):
    """Test folders are no packages."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The folder, and the kinds by path."""
    folder = tmp_path_factory.mktemp("odd") / "pictures"
    profiles = module(HERE.parent / "data_processing" / "profiles.py")
    made = module(HERE / "odd_pictures.py").build(folder, profiles)
    kinds = {kind.path: kind for kind in made}
    assert len(kinds) == len(made) > 120
    return folder, kinds


@pytest.fixture(autouse=True)
def closed(odd, monkeypatch):
    """One folder is closed, also to root."""
    scandir = os.scandir

    def scan(path):
        if Path(path) == odd[0] / "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)


def readable(kinds):
    return {path for path, kind in kinds.items() if kind.pixels is not None}


def listed(path: Path):
    """Path and reason of each row of a list of what was skipped."""
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] == "path\treason\tdetail"
    return sorted(tuple(line.split("\t")[:2]) for line in lines[1:])


def expected_list(kinds):
    return sorted(
        (printable(path), kind.reason) for path, kind in kinds.items() if kind.reason is not None
    )


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF
def test_every_picture_is_encoded_or_listed_with_a_reason(odd):
    folder, kinds = odd
    paths, skipped = images_below(folder)
    findings = Findings(skipped)
    reader = of_files([(path.relative_to(folder).as_posix(), path) for path in paths])
    read = {item.name: pixels for item, pixels in decoded(reader, Target(), findings)}
    found = {name.replace("%E9", "\udce9"): pixels for name, pixels in read.items()}
    reasons = {path: reason for path, reason, _ in findings.skipped}
    assert reasons == {path: kind.reason for path, kind in kinds.items() if kind.reason}
    assert found.keys() == readable(kinds)
    wrong = {}
    for path, pixels in found.items():
        kind = kinds[path]
        assert pixels.dtype == np.uint8 and pixels.shape[1:] == kind.pixels.shape[:2], path
        error = np.abs(pixels.transpose(1, 2, 0) - kind.pixels.astype(float))
        if error.mean() > kind.tolerance if kind.tolerance else error.max() > 1:
            wrong[path] = (error.mean(), error.max())
    assert not wrong


def test_train(rotvq, odd, tmp_path):
    folder, kinds = odd
    words = ("--preset", "smoke", "--data", folder, "--data.size", 32, "--training.epochs", 1)
    answer = rotvq("train", *words, "--training.batch_size", 8, "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    counts = re.search(r"(\d+) training and (\d+) test images", answer.out)
    assert int(counts[1]) + int(counts[2]) == len(readable(kinds))
    assert listed(tmp_path / "run" / "skipped.tsv") == expected_list(kinds)
    for reason, n in Counter(kind.reason for kind in kinds.values() if kind.reason).items():
        assert f"{n} skipped: {reason}" in answer.out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", answer.out), "escapes reach a terminal"


def test_encode_decode_and_reconstruct(rotvq, _trained, odd, tmp_path):
    folder, kinds = odd
    words = ("--model", _trained, "-o")
    answer = rotvq("encode", folder, *words, tmp_path / "t.npz")
    assert (answer.status, answer.err) == (0, "")
    names = load_tokens(tmp_path / "t.npz").names
    assert sorted(names) == sorted(path.replace("\udce9", "%E9") for path in readable(kinds))
    assert listed(tmp_path / "t.npz.skipped.tsv") == expected_list(kinds)
    assert rotvq("decode", tmp_path / "t.npz", *words, tmp_path / "d").status == 0
    answer = rotvq("reconstruct", folder, *words, tmp_path / "r")
    assert (answer.status, answer.err) == (0, "")
    for out in ("d", "r"):
        written = [path for path in (tmp_path / out).rglob("*") if path.is_file()]
        assert len(written) == len(readable(kinds))
    assert listed(tmp_path / "r.skipped.tsv") == expected_list(kinds)


def test_a_glob_equals_its_folder(rotvq, _trained, odd, tmp_path, monkeypatch):
    """A shell gives every file, Thumbs.db too."""
    folder = odd[0]
    monkeypatch.chdir(folder / "others")
    words = sorted(str(path.name) for path in Path().iterdir())
    answer = rotvq("encode", *words, "../plain.png", "--model", _trained, "-o", tmp_path / "t.npz")
    assert (answer.status, answer.err) == (0, "")
    assert list(load_tokens(tmp_path / "t.npz").names)[-1] == "plain.png"
    assert "Thumbs.db" in (tmp_path / "t.npz.skipped.tsv").read_text()
