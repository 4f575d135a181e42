"""Signals as a wish to stop."""

from __future__ import annotations

import signal
import threading

import pytest

from rotvq.training import interrupt as module
from rotvq.training.interrupt import Interrupt, Stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_a_later_one_stops_at_once(number, monkeypatch):
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        signal.raise_signal(number)
        assert interrupt.signal == number
        signal.raise_signal(signal.SIGINT)  # a launcher's copy of the first
        assert interrupt.signal == number
        monkeypatch.setattr(module, "PATIENCE", -1.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupt.signal == number


def test_handlers_come_back_even_after_an_error():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(ZeroDivisionError), Interrupt():
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in before} == before


def test_another_thread_may_enter_and_leave():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupt() as interrupt:
            seen.append(interrupt.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
    assert signal.getsignal(signal.SIGINT) == before


def test_stopped_carries_its_signal():
    stopped = Stopped(signal.SIGTERM, "all saved")
    assert stopped.number == 15
    assert str(stopped) == "all saved"
