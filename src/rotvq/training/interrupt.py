"""Ctrl-C and SIGTERM stop a run at the end of a step."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

PATIENCE = 2.0
"""Seconds within which a second signal counts as the first."""


class Interrupt:
    """A context that records the first signal; another one seconds later interrupts at once.

    A launcher forwards a Ctrl-C that the terminal has already sent: it counts as the first.

    Outside the main thread, where Python allows no signal handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupt:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        except ValueError:
            pass
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), now
        elif now - self._since > PATIENCE:
            raise KeyboardInterrupt


class Stopped(Exception):
    """A signal stopped the run, after its checkpoint was written.

    Args:
        number: the signal; a shell expects exit status 128 + number.
        message: what was saved and how to continue.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
