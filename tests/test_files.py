"""Files that are whole or absent."""

from __future__ import annotations

import json
import math
import os

import pytest

from rotvq import files
from rotvq.files import to_json, write_atomically, write_json, write_text


def test_text_and_json_come_back_as_utf8(tmp_path):
    write_text(tmp_path / "a.txt", "γ → 0.99\n")
    assert (tmp_path / "a.txt").read_bytes() == "γ → 0.99\n".encode()
    value = {"name": "Größe", "list": [1, 2.5, None], "inner": {"yes": True}}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.txt"]


def test_numbers_that_json_has_not_become_null():
    value = {"a": [math.nan, {"b": -math.inf}], "c": 1e300}
    assert json.loads(to_json(value)) == {"a": [None, {"b": None}], "c": 1e300}
    assert to_json(["γ"]) == '["γ"]'


def test_a_file_is_replaced(tmp_path):
    write_text(tmp_path / "a", "a longer old text")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, kind):
    path = tmp_path / "a"
    path.write_text("old")

    def half(target):
        target.write_text("half")
        raise kind("no space")

    with pytest.raises(kind):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_content_is_on_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    path, calls = tmp_path / "a", []
    path.write_text("old")
    sync, replace = files._sync, os.replace
    monkeypatch.setattr(files, "_sync", lambda p: (calls.append(("sync", p)), sync(p)))

    def replacing(source, target):
        assert path.read_text() == "old"
        assert source.read_text() == "new"
        calls.append(("replace", target))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", replacing)
    write_text(path, "new")
    kinds = [kind for kind, _ in calls]
    assert kinds == ["sync", "replace", "sync"]
    assert calls[0][1] != path
    assert calls[2][1] == tmp_path


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert json.loads((tmp_path / "a.json").read_text()) == [1]
