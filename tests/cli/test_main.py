"""The entry: verbs, statuses, one line for every error, no torch for help."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import rotvq as package
from rotvq.cli import doctor, main
from rotvq.cli.main import VERBS
from rotvq.errors import UserError


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_verb(rotvq, word):
    answer = rotvq(word)
    assert (answer.status, answer.err) == (0, "")
    assert set(VERBS) == {
        "demo", "train", "evaluate", "encode", "decode", "reconstruct", "export", "serve",
        "reproduce", "beyond", "classifier", "report", "completion", "doctor",
    }  # fmt: skip
    assert all(f"  {verb} " in answer.out for verb in VERBS)


def test_no_words_at_all_get_the_help_and_status_2(rotvq):
    answer = rotvq()
    assert answer.status == 2
    assert "usage: rotvq" in answer.out


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_version(rotvq, word):
    assert rotvq(word) == (0, f"rotvq {package.__version__}\n", "")


def test_an_unknown_verb_is_told_what_there_is(rotvq):
    error = rotvq("trian").error
    assert "'trian'" in error
    assert all(verb in error for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(rotvq, verb):
    answer = rotvq(verb, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith(f"usage: rotvq {verb}")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_an_unknown_option_is_named(rotvq, verb):
    coding = ["x", "--model", "y", "-o", "z"]
    needed = dict.fromkeys(["encode", "decode", "reconstruct"], coding)
    needed |= {"evaluate": ["x"], "report": ["x"], "export": ["x", "--to", "onnx", "-o", "z"]}
    needed |= {"serve": ["x"], "completion": ["bash"]}
    error = rotvq(verb, *needed.get(verb, []), "--no-such-option", "1").error
    assert "no-such-option" in error
    assert f"rotvq {verb} --help" in error


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in sorted(VERBS))])
def test_help_does_not_import_torch(words):
    code = (
        "import sys\n"
        "from rotvq.cli.main import main\n"
        "try:\n    status = main(sys.argv[1:])\n"
        "except SystemExit as end:\n    status = end.code or 0\n"
        "heavy = [n for n in ('torch', 'matplotlib', 'datasets') if n in sys.modules]\n"
        "print(heavy, file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


class _Verb:
    """A verb that fails as told."""

    def __init__(self, error):
        self.error = error

    def __call__(self, argv):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UserError("expected this\n  got that"), 2, "rotvq: expected this got that\n"),
        (KeyboardInterrupt(), 130, "rotvq: Stopped.\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "rotvq: expected a readable"),
        (ZeroDivisionError("a\nb"), 1, "rotvq: a fault in rotvq (ZeroDivisionError: a b)"),
    ],
)
def test_what_goes_wrong_becomes_one_line(rotvq, monkeypatch, error, status, text):
    monkeypatch.delenv("ROTVQ_DEBUG", raising=False)
    monkeypatch.setattr(doctor, "run", _Verb(error))
    answer = rotvq("doctor")
    assert (answer.status, answer.out) == (status, "")
    assert answer.err.startswith(text)
    assert answer.err.count("\n") == 1


def test_a_fault_shows_its_traceback_on_demand(rotvq, monkeypatch):
    monkeypatch.setattr(doctor, "run", _Verb(ZeroDivisionError("oh")))
    monkeypatch.setenv(main.DEBUG, "1")
    answer = rotvq("doctor")
    assert answer.status == 1
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("rotvq: a fault in rotvq")


def test_a_closed_pipe_is_no_error():
    code = "import sys; from rotvq.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 141
    assert err == b""
