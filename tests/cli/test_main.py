"""The entry point: commands, exit statuses, one-line errors, help without torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import rotvq as package
from rotvq.cli import doctor, main
from rotvq.cli.main import COMMANDS
from rotvq.errors import UserError

HELP = [["--help"], *([command, "--help"] for command in sorted(COMMANDS))]


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_command(rotvq, word):
    answer = rotvq(word)
    assert (answer.status, answer.err) == (0, "")
    assert set(COMMANDS) == {
        "demo", "train", "evaluate", "encode", "decode", "reconstruct", "codebook", "prior",
        "sample", "export", "serve", "reproduce", "ablate", "classifier", "report", "sweep",
        "completion", "doctor",
    }  # fmt: skip
    assert all(f"  {command} " in answer.out for command in COMMANDS)


def test_no_arguments_print_the_help_with_status_2(rotvq):
    answer = rotvq()
    assert answer.status == 2
    assert "usage: rotvq" in answer.out


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_version(rotvq, word):
    assert rotvq(word) == (0, f"rotvq {package.__version__}\n", "")


def test_an_unknown_command_gets_the_list(rotvq):
    error = rotvq("trian").error
    assert "'trian'" in error
    assert all(command in error for command in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(rotvq, command):
    answer = rotvq(command, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith(f"usage: rotvq {command}")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_an_unknown_option_is_named(rotvq, command):
    coding = ["x", "--model", "y", "-o", "z"]
    needed = dict.fromkeys(["encode", "decode", "reconstruct"], coding)
    needed |= {"evaluate": ["x"], "report": ["x"], "export": ["x", "--to", "onnx", "-o", "z"]}
    needed |= {"sweep": ["--vary", "training.seed=0,1"], "serve": ["x"], "sample": ["x", "-o", "z"]}
    needed["completion"] = ["bash"]
    error = rotvq(command, *needed.get(command, []), "--no-such-option", "1").error
    assert "no-such-option" in error
    asked = "train" if command == "sweep" else command  # a sweep has the options of its runs
    assert f"rotvq {asked} --help" in error


@pytest.mark.parametrize(
    "words", [["--help"], *([command, "--help"] for command in sorted(COMMANDS))]
)
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


class _Command:
    """A command that raises an error."""

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
        (ZeroDivisionError("a\nb"), 1, "rotvq: internal error (ZeroDivisionError: a b)"),
    ],
)
def test_what_goes_wrong_becomes_one_line(rotvq, monkeypatch, error, status, text):
    monkeypatch.delenv("ROTVQ_DEBUG", raising=False)
    monkeypatch.setattr(doctor, "run", _Command(error))
    answer = rotvq("doctor")
    assert (answer.status, answer.out) == (status, "")
    assert answer.err.startswith(text)
    assert answer.err.count("\n") == 1


def test_a_fault_shows_its_traceback_on_demand(rotvq, monkeypatch):
    monkeypatch.setattr(doctor, "run", _Command(ZeroDivisionError("oh")))
    monkeypatch.setenv(main.DEBUG, "1")
    answer = rotvq("doctor")
    assert answer.status == 1
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("rotvq: internal error")


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


def command_line(words, redirections, **variables):
    """The command line in a shell, with its streams as given."""
    code = "import sys; from rotvq.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirections}', "sh", sys.executable, "-c", code, *words],
        env={**os.environ, **variables},
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["nonsense"], 2)])
def test_closed_streams_are_no_fault(closed, words, status):
    done = command_line(words, closed)
    assert done.returncode == status
    said = done.stdout + done.stderr
    assert said.count(b"\n") == (0 if (">&-" if not status else "2>&-") in closed.split() else 1)


def test_output_to_a_closed_stream_reaches_no_file(tmp_path):
    """The next file to be opened would have its number."""
    code = (
        "import sys; from rotvq.cli import doctor; from rotvq.cli.main import answering\n"
        "def run():\n"
        f"    with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "        import os; os.write(1, b'printed'); file.write('written')\n"
        "    return 0\n"
        "sys.exit(answering(run))"
    )
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", sys.executable, "-c", code], timeout=120)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "written"


@pytest.mark.parametrize(
    "words", [["--help"], *([command, "--help"] for command in sorted(COMMANDS))]
)
def test_help_is_printed_in_any_terminal_encoding(words):
    done = command_line(words, "", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"usage: rotvq" in done.stdout.replace(b"Usage", b"usage") and done.stdout.isascii()


def test_errors_are_printed_in_any_terminal_encoding(tmp_path):
    words = ["train", "--config", os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff\xce\xb3")]
    done = command_line(words, "", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2
    assert done.stderr.startswith(b"rotvq: --config: expected") and done.stderr.isascii()


def test_a_run_may_have_a_name_that_is_not_text(rotvq, tiny, tmp_path):
    odd = os.fsdecode(os.fsencode(str(tmp_path)) + b"/caf\xe9")
    data = f"{odd}-photos"
    os.symlink(tiny[1], data)
    assert rotvq("train", *tiny, "--data", data, "--out", odd).status == 0
    assert rotvq("train", "--out", odd, "--resume").status == 0
    again = rotvq("train", "--config", f"{odd}/config.yaml", "--out", f"{odd}-again")
    assert again.status == 0
    for words in (
        ["evaluate", odd],
        ["encode", data, "--model", odd, "-o", f"{odd}.npz"],
        ["export", odd, "--to", "torch", "-o", f"{odd}-torch"],
    ):
        assert rotvq(*words).status == 0
    names = {name[:3] for name in os.listdir(os.fsencode(str(tmp_path)))}
    assert names == {b"caf"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_place_to_write_to_has_the_same_short_option_everywhere(rotvq, command):
    said = rotvq(command, "--help").out
    assert ("--out" in said) == ("-o " in said)
