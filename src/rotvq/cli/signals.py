"""SIGTERM and SIGHUP as an orderly end, so that what is half done is cleaned up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end. Nothing that handles errors takes it for one.

    Args:
        number: the signal; a shell expects exit status 128 + number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def orderly_end() -> Iterator[None]:
    """Raise Terminated where a signal would end the process; a second one changes nothing.

    A signal that the process was started to ignore (nohup) stays ignored. Outside the main thread,
    where Python allows no handlers, nothing happens.
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
    # Launchers send it to a process and then to its group.
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(number)
