"""Untrusted JSON and YAML files: plain data, or an error of one line."""

import json
import math
import os
import socket

import pytest

from rotvq import guarded
from rotvq.errors import UserError
from rotvq.guarded import check_not_linked, open_regular, read_bytes, read_json, read_yaml


def test_well_formed_files_are_read(tmp_path):
    value = {"a": [1, -2.5, None, True, "é"], "b": {"c": {}}}
    (tmp_path / "a.json").write_text('{"a": [1, -2.5, null, true, "é"], "b": {"c": {}}}')
    (tmp_path / "a.yaml").write_text("a: [1, -2.5, null, true, é]\nb: {c: {}}\n")
    assert read_json(tmp_path / "a.json") == read_yaml(tmp_path / "a.yaml") == value
    assert read_bytes(tmp_path / "a.json", within=tmp_path).startswith(b"{")


@pytest.mark.parametrize("value", [2**64 - 1, -(2**64) + 1, json.loads("[" * 33 + "]" * 33)])
def test_values_at_the_limits_are_read(tmp_path, value):
    """A container 32 levels deep and integers of 64 bits."""
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value


def test_a_file_of_the_largest_size_is_read(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    assert len(read_bytes(tmp_path / "a", 1000)) == 1000


def test_a_pipe_that_takes_the_place_of_a_checked_file_is_not_read(tmp_path, monkeypatch):
    path, system = tmp_path / "a", os.open
    path.touch()

    def replaced(name, flags, *more):
        path.unlink()
        os.mkfifo(path)
        return system(name, flags, *more)

    with monkeypatch.context() as patch:
        patch.setattr(guarded.os, "open", replaced)
        with pytest.raises(UserError, match="expected a regular file; got a pipe"):
            open_regular(path)


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    check_not_linked(tmp_path / "absent")
    check_not_linked(tmp_path)
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(UserError, match="link: expected a folder; it is a link to elsewhere"):
        check_not_linked(tmp_path / "link")


def test_nan_and_infinity_are_numbers(tmp_path):
    (tmp_path / "a.json").write_text("[NaN, Infinity, 1e999]")
    nan, *infinite = read_json(tmp_path / "a.json")
    assert math.isnan(nan) and infinite == [math.inf, math.inf]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_of_json_are_read(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"é": 1}', encoding=encoding)
    assert read_json(tmp_path / "a.json") == {"é": 1}


def test_an_absent_file_raises_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_json(tmp_path / "absent")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"\xff\xfe\xfd", "utf-16"),
        (b'"\xe9"', "utf-8"),
        (b"[" * 100_000, "recursion"),
        (b"[" * 34 + b"]" * 34, "deeper than 32"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "deeper than 32"),
        (str(2**64).encode(), "64 bits"),
        (b"[-" + b"1" * 5000 + b"]", "4300 digits"),
        (b" " * (2**24 + 1), "at most 16,777,216 bytes"),
    ],
)
def test_malformed_json_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_json(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a: [1", "expected ',' or ']'.* in line 1"),
        (b"a: &a 1\nb: *a\n", "alias"),
        (b"a: &a\n  b: *a\n", "alias"),
        (b"<<: &a {b: 1}\nc: *a", "alias"),
        (b"[" * 50_000, "recursion"),
        (b"a: {" * 20_000, "recursion"),
        (b"!!python/object/apply:os.system [echo]", "constructor"),
        (b"a: 2001-01-01", "has a value of type date"),
        (b"a: !!binary aGk=", "has a value of type bytes"),
        (b"a: !!set {b, c}", "has a value of type set"),
        (b"a: !!omap [b: 1]", "has a value of type tuple"),
        (b"{1: 2}", "has a key of type int"),
        (b"[1, 2]: 3", "unhashable"),
        (b"a: 0x" + b"f" * 5000, "64 bits"),
        (b"a: " + b"1:" * 30_000 + b"1", "64 bits"),
        (b"a: b\n---\na: c", "document"),
        (b"\xff\xff", "invalid start byte"),
        (b"a: \x00", "unacceptable"),
        (b"a: 1\n" * 60_000, "at most 262,144 bytes"),
    ],
)
def test_malformed_yaml_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def special(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among files")
@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
def test_only_regular_files_are_opened(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = special(tmp_path.relative_to(tmp_path) / "a", kind)
    with pytest.raises(UserError, match=f"expected a regular file; got a {kind}"):
        open_regular(path)


def test_a_file_without_end_is_bounded(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="at most 1,000 bytes; got more"):
        read_bytes(tmp_path / "a", 1000)


def test_links_may_not_lead_out_of_a_folder(tmp_path):
    inside, outside = tmp_path / "run", tmp_path / "secret"
    inside.mkdir()
    outside.write_text("1")
    (inside / "whole").write_text("1")
    (inside / "near").symlink_to("whole")
    (inside / "out").symlink_to(outside)
    assert read_json(inside / "near", within=inside) == 1
    with pytest.raises(UserError, match=r"expected a file inside .*run; it is a link to .*secret"):
        read_json(inside / "out", within=inside)
    (tmp_path / "again").symlink_to(inside)  # a folder may be given by a link
    assert read_json(tmp_path / "again" / "whole", within=tmp_path / "again") == 1


def test_a_file_that_may_not_be_read_is_one_line(tmp_path):
    path = tmp_path / "a"
    path.symlink_to(path)
    with pytest.raises(UserError, match="expected a readable file; got Too many levels"):
        read_bytes(path)
