"""Files that are whole or absent."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import subprocess
import sys

import pytest

from rotvq import files
from rotvq.files import (
    TEMPORARY,
    remove_abandoned,
    to_json,
    write_atomically,
    write_json,
    write_text,
)


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

    with pytest.raises(kind, match="no space"):
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
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", object())
    assert json.loads((tmp_path / "a.json").read_text()) == [1]


def names_taken(folder, times):
    """The names of so many temporary files of a process."""
    found = []
    for _ in range(times):
        write_atomically(folder / "a", lambda target: (found.append(target.name), target.touch()))
    return found


def test_temporary_names_cannot_be_guessed(tmp_path, monkeypatch):
    """Two containers have processes of one id; what they write beside each other is not mixed."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    found = names_taken(tmp_path, 100)
    assert len(set(found)) == 100
    assert not any("1" == part for name in found for part in name.replace("-", ".").split("."))


@pytest.mark.parametrize("kind", ["link", "link to nothing", "file"])
def test_existing_files_and_links_are_neither_followed_nor_written_nor_removed(
    tmp_path, monkeypatch, kind
):
    """Even if someone guessed the name."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 2 * n)
    target, way = tmp_path / "target", tmp_path / TEMPORARY.replace("*", "0" * 16)
    if kind != "link to nothing":
        target.write_text("mine")
    if kind == "file":
        way.write_text("mine")
    else:
        way.symlink_to(target)
    with pytest.raises(FileExistsError, match="rotvq"):
        write_text(tmp_path / "a", "new")
    assert way.is_symlink() == (kind != "file")
    if kind == "link to nothing":
        assert not target.exists()
    else:
        assert target.read_text() == "mine"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_is_the_one_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "x")
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "plain")}
    assert modes == {0o666 & ~mask}


@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "EACCES", "EPERM", "ENOSYS", "EROFS"])
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_files_that_cannot_be_synced_are_still_written(tmp_path, monkeypatch, name, call):
    original = getattr(os, call)

    def failing(*words):
        if call == "open" and words[1] != os.O_RDONLY:
            return original(*words)
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr(files.os, call, failing)
    write_text(tmp_path / "a", "new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT"])
def test_a_sync_that_lost_data_fails_the_write(tmp_path, monkeypatch, name):
    write_text(tmp_path / "a", "old")

    def failing(descriptor):
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr(files.os, "fsync", failing)
    with pytest.raises(OSError, match=name):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_descriptor_stays_open(tmp_path):
    """An open one keeps its lock, and a long run would use them all up."""
    (tmp_path / TEMPORARY.replace("*", "0" * 16)).write_text("left by a killed process")
    before = len(os.listdir("/dev/fd"))
    write_text(tmp_path / "a", "x")
    assert len(os.listdir("/dev/fd")) == before
    remove_abandoned(tmp_path)
    assert len(os.listdir("/dev/fd")) == before


def test_names_that_are_not_text_are_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"path": name, "γ": 1})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "γ" in text
    assert json.loads(text) == {"path": name, "γ": 1}


WRITE = """
import sys
from pathlib import Path
from rotvq.files import write_atomically
def write(target):
    target.write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
write_atomically(Path(sys.argv[1]), write)
"""


def test_leftovers_go_when_their_writer_is_gone_and_not_before(tmp_path):
    words = [sys.executable, "-c", WRITE, str(tmp_path / "a")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as writer:
        assert writer.stdout.readline() == "begun\n"
        (left,) = tmp_path.glob(TEMPORARY)
        remove_abandoned(tmp_path)
        assert left.read_text() == "half"
        writer.kill()
        writer.wait()
    remove_abandoned(tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_only_files_are_leftovers(tmp_path, kind):
    place, target = tmp_path / ".rotvq-0123456789abcdef.part", tmp_path / "target"
    target.write_text("mine")
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(target)
    else:
        place.mkdir()
    remove_abandoned(tmp_path)
    assert os.path.lexists(place) and target.read_text() == "mine"


def test_a_signal_while_the_temporary_file_is_opened_leaves_nothing(tmp_path, monkeypatch):
    opened = os.open

    def interrupted(path, *rest, **more):
        opened(path, *rest, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == []
