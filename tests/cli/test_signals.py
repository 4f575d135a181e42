"""A signal that ends a command leaves nothing half done, and the exit status names it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from rotvq import files
from rotvq.cli.signals import Terminated, orderly_end
from rotvq.model.second_order import SecondOrderModel

COMMANDS = {
    "encode": "encode photos --model run -o out/tokens.npz",
    "encode safetensors": "encode photos --model run -o out/tokens.safetensors",
    "encode parquet": "encode photos --model run -o out/tokens.parquet",
    "decode": "decode tokens.npz --model run -o out",
    "reconstruct": "reconstruct photos --model run -o out",
    "export model": "export run --to model -o out",
    "export torch": "export run --to torch -o out",
    "report": "report run --out out",
    "evaluate": "evaluate run --out out/evaluation.json",
    "train": "train --config run/config.yaml --out out",
}


@pytest.fixture
def place(rotvq, trained, images, tmp_path, monkeypatch):
    """A folder with a run, pictures and tokens, which commands are run in."""
    monkeypatch.chdir(tmp_path)
    trained.rename("run")
    os.symlink(images / "test", "photos")
    assert rotvq("encode", "photos/0000.png", "--model", "run", "-o", "tokens.npz").status == 0
    return tmp_path


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.match(".rotvq-*.part") or "tmp" in path.name]


@pytest.fixture
def heard():
    """Signals as they are for a command in a terminal; in the background they may be ignored."""
    usual = {signal.SIGINT: signal.default_int_handler}
    usual |= dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("command", "number"),
    [
        *((command, signal.SIGTERM) for command in COMMANDS),
        *(("encode", number) for number in (signal.SIGHUP, signal.SIGINT)),
    ],
)
def test_no_command_leaves_a_half_written_file(rotvq, place, heard, monkeypatch, command, number):
    """The signal comes when a file is whole and not yet in its place."""
    monkeypatch.setattr(files.os, "replace", lambda *paths: signal.raise_signal(number))
    answer = rotvq(*COMMANDS[command].split())
    assert (answer.status, answer.err) == (128 + number, "rotvq: Stopped.\n")
    assert leftovers(place) == []
    written = [path.name for path in (place / "out").rglob("*") if path.is_file()]
    assert set(written) <= {".rotvq-lock"}


@pytest.mark.parametrize("command", ["encode", "reconstruct", "evaluate"])
def test_a_signal_ends_a_search(rotvq, place, heard, monkeypatch, command):
    monkeypatch.setattr(SecondOrderModel, "_picked", lambda *_: signal.raise_signal(signal.SIGINT))
    answer = rotvq(*COMMANDS[command].split(), "--effort")
    assert (answer.status, answer.err) == (128 + signal.SIGINT, "rotvq: Stopped.\n")
    assert not (place / "out").exists() or list((place / "out").iterdir()) == []


def test_a_terminated_process_leaves_whole_pictures_alone(place):
    (place / "many").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 64, 64, 3), np.uint8)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(place / f"many/{number:04d}.png")
    words = ["reconstruct", "many", "--model", "run", "-o", "out", "--batch-size", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rotvq", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not any((place / "out").glob("*.png")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "rotvq: Stopped.\n")
    assert leftovers(place) == []
    written = [*(place / "out").iterdir()]
    assert 0 < len(written) < 300
    for path in written:
        Image.open(path).verify()


def test_a_second_signal_does_not_interrupt_cleanup():
    with pytest.raises(Terminated) as error, orderly_end():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned = True
    assert cleaned
    assert error.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_signals_that_are_ignored_or_handled_stay_so():
    seen = []
    before = (
        signal.signal(signal.SIGHUP, signal.SIG_IGN),
        signal.signal(signal.SIGTERM, lambda *words: seen.append(words[0])),
    )
    try:
        with orderly_end():
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])
