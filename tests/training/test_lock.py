"""One trainer per folder: a second one is refused, and the first one is not affected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rotvq.errors import UserError
from rotvq.training.lock import RunLock
from rotvq.training.trainer import Trainer

HOLD = """
import sys
from pathlib import Path
from rotvq.training.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Another process that holds the lock of a folder."""
    started = []

    def hold(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", ["resume", "begin", "overwrite"])
def test_a_second_trainer_is_refused_and_changes_nothing(
    tmp_path, data, tiny, begin, holder, what, outcome
):
    folder = tmp_path / "run"
    if what != "begin":
        begin(tiny(training={"epochs": 1}), data, folder).run()
    first = holder(folder)
    # What the first is writing, and what it would find missing.
    (folder / ".rotvq-0123456789abcdef.part").write_bytes(b"half")
    files = everything(folder)
    trainer = Trainer(tiny(training={"epochs": 2}), data, folder)
    call = {"resume": trainer.resume, "begin": trainer.begin}.get(
        what, lambda: trainer.begin(overwrite=True)
    )
    with pytest.raises(UserError, match="one is training it now") as error:
        call()
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    assert everything(folder) == files
    first.kill()
    first.wait()
    call()
    trainer.run()
    assert outcome(folder)["position"].startswith('{"epoch": 2')


def test_the_lock_is_held_from_start_to_end(tmp_path, data, tiny, callback):
    trainer, seen = Trainer(tiny(training={"epochs": 1}), data, tmp_path), []

    def others():
        try:
            RunLock(tmp_path).acquire()
        except UserError:
            return True
        return False

    trainer.begin()
    seen.append(others())
    trainer.run([callback(on_epoch_end=lambda record: seen.append(others()))])
    assert seen == [True, True]
    assert not others()


@pytest.mark.parametrize("what", ["resume", "run"])
def test_a_failure_releases_the_lock(tmp_path, data, tiny, begin, what, monkeypatch):
    trainer = begin(tiny(), data, tmp_path / "run")
    if what == "resume":
        trainer.run()
        (tmp_path / "run/checkpoint.pt").write_bytes(b"damaged")
    else:
        monkeypatch.setattr(trainer, "batch", lambda *_: trainer.refuse("it is broken"))
    with pytest.raises(UserError, match=r"damaged|broken"):
        getattr(trainer, what)()
    RunLock(tmp_path / "run").acquire()


def test_reports_and_measures_need_no_lock(tmp_path, data, tiny, begin, holder):
    from rotvq.report import write_report

    begin(tiny(training={"epochs": 1}), data, tmp_path / "run").run()
    holder(tmp_path / "run")
    assert write_report([tmp_path / "run"], tmp_path / "run").is_file()


def test_a_stopped_process_still_holds_the_lock(tmp_path, holder):
    os.kill(holder(tmp_path).pid, signal.SIGSTOP)
    with pytest.raises(UserError, match="one is training it now"):
        RunLock(tmp_path).acquire()
