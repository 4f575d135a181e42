"""Several processes at once: their statuses, what they complain of, and how they stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from rotvq.cli.side_by_side import side_by_side
from rotvq.data_processing import load


@pytest.fixture(autouse=True)
def no_torch(tmp_path, monkeypatch):
    """The processes import a stand-in, at once, that writes down how many threads it was given."""
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in/torch.py").write_text(
        f"def set_num_threads(number):\n    open({str(tmp_path / 'threads')!r}, 'a').write("
        "f'{number} ')\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "stand-in")


def script(text):
    """A function that any process can import; its status is that of SystemExit, else 0."""
    return partial(exec, text, {})


def first(path, then, others="0"):
    """One process does one thing, the others something else."""
    return script(
        f"import os, sys, signal\ntry:\n    os.mkdir({str(path)!r})\n"
        f"except FileExistsError:\n    sys.exit({others})\n{then}"
    )


def test_each_process_gets_its_share_of_the_cores(tmp_path):
    assert side_by_side(2, partial(int, 0)) == 0
    share = max(1, (os.cpu_count() or 1) // 2)
    assert (tmp_path / "threads").read_text().split() == [str(share)] * 2


@pytest.mark.parametrize("statuses", [(0, 3), (3, 0), (1, 2)])
def test_the_highest_status_is_returned(tmp_path, statuses):
    one, other = statuses
    assert side_by_side(2, first(tmp_path / "one", f"sys.exit({one})", other)) == max(statuses)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_has_the_status_of_a_shell(tmp_path, number):
    die = f"os.kill(os.getpid(), {int(number)})"
    assert side_by_side(2, first(tmp_path / "one", die, others="2")) == 128 + number


def test_an_error_of_all_processes_is_printed_once(capsys):
    assert side_by_side(3, partial(load, "nonsense")) == 2
    err = capsys.readouterr().err
    assert err.startswith("rotvq: data: expected an existing path") and "'nonsense'" in err
    assert err.count("\n") == 1


def test_unreadable_images_of_a_study_are_one_line(rotvq, tmp_path):
    words = ("table2", "--preset", "smoke", "--jobs", 2, "--out", tmp_path / "out")
    assert "nowhere/at/all.zip" in rotvq("reproduce", *words, "--data", "nowhere/at/all.zip").error
    assert not (tmp_path / "out").exists()


def interrupted(function, folder, number):
    """The status where a signal comes as soon as both processes have left a file in a folder."""

    def interrupt():
        end = time.monotonic() + 60
        while len([*folder.glob("pid *")]) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    status = side_by_side(2, function)
    thread.join(60)
    assert not thread.is_alive()
    return status


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot wait here")
def test_signals_are_deferred_during_imports(capsys, tmp_path):
    (tmp_path / "stand-in/torch.py").write_text(
        f"import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "pathlib.Path(folder, f'pid {os.getpid()}').touch()\n"
        "try:\n"
        "    while len([*folder.glob('pid *')]) < 2:\n        time.sleep(0.01)\n"
        "    time.sleep(1)\n"
        "except KeyboardInterrupt:\n    os.abort()\n"
    )
    function = script("import sys\nsys.exit(77)")
    assert interrupted(function, tmp_path, signal.SIGINT) == 130
    assert capsys.readouterr().err == "rotvq: Stopped.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_to_all(capsys, tmp_path, number):
    function = script(
        f"import os, pathlib, time\npathlib.Path({str(tmp_path)!r}, f'pid {{os.getpid()}}').touch()"
        "\ntime.sleep(60)"
    )
    before = signal.getsignal(number)
    assert interrupted(function, tmp_path, number) == 128 + number
    assert capsys.readouterr().err == "rotvq: Stopped.\n"
    for path in tmp_path.glob("pid *"):
        assert not Path("/proc", path.name.split()[1]).exists()
    assert signal.getsignal(number) is before
