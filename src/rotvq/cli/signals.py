"""Turns SIGTERM and SIGHUP into an exception, so that cleanup code runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """The process received a signal to end; not an Exception, so that handlers do not catch it.

    Args:
        number: the signal; the exit status is 128 + number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def orderly_end() -> Iterator[None]:
    """Raise Terminated when a signal would end the process; further signals are ignored.

    A signal that is ignored from the start (nohup) stays ignored. Outside the main thread, where
    Python allows no signal handlers, this does nothing.
    """
    taken = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, _end)
    except ValueError:
        taken = []
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    # Launchers signal the process, then its process group.
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(number)
