"""Lines and progress on standard output, with rich if it is installed, otherwise plain text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rotvq.text import printable

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY = 60.0
"""Seconds between progress lines if no bar is drawn."""


class Terminal:
    """Prints a command's output.

    Args:
        quiet: print nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = _console(quiet)
        self.last_line = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line; control characters are escaped."""
        self.console.print(printable(text), markup=False)
        self.last_line = time.monotonic()

    def log(self, text: Callable[[], str]) -> None:
        """Print a progress line, at most once per minute and only if no bar is drawn."""
        if not self.console.is_terminal and time.monotonic() - self.last_line >= LINE_EVERY:
            self.say(text())

    @contextmanager
    def counting(
        self, total: int | None, doing: str, details: Callable[[], str] = str
    ) -> Iterator[Callable[[int], None]]:
        """Show progress over `total` images; call the yielded function with each batch's size.

        Args:
            total: all images, if known.
            doing: such as "encoding".
            details: what else to show.
        """
        since, done = time.monotonic(), 0
        with self._bar(total, doing, details) as draw:

            def advance(images: int) -> None:
                nonlocal done
                done += images
                draw(images)
                far = counted(done, total, time.monotonic() - since)
                self.log(lambda: ", ".join(filter(None, (f"{doing}: {far}", details()))))

            yield advance

    def _bar(
        self, total: int | None, doing: str, details: Callable[[], str]
    ) -> AbstractContextManager[Callable[[int], object]]:
        if not self.console.is_terminal:
            return nullcontext(lambda images: None)
        from rotvq.cli.bars import bar

        return bar(self.console, total, doing, details)


class _PlainConsole:
    """A replacement for the part of rich's Console that is used here."""

    is_terminal = False

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def print(self, text: str, **_: Any) -> None:
        if not self._quiet:
            print(text, flush=True)

    def status(self, text: str) -> AbstractContextManager[None]:
        return nullcontext()


def _console(quiet: bool) -> Console:
    try:
        from rotvq.cli.bars import PipedConsole
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return _PlainConsole(quiet)  # type: ignore[return-value]
    return PipedConsole(highlight=False, soft_wrap=True, quiet=quiet)


def counted(done: float, total: float | None, seconds: float, before: float = 0) -> str:
    """Progress as text, such as "1,200 of 5,000 images, 400 images/s, 10 s left".

    Args:
        done: images so far, of which `before` were done before the clock started.
        total: all images, if known.
        seconds: elapsed time.
    """
    speed = (done - before) / max(seconds, 1e-3)  # a coarse clock may not have ticked yet
    if total is None:
        return f"{done:,.0f} images, {speed:,.0f} images/s"
    left = duration((total - done) / speed)
    return f"{done:,.0f} of {total:,.0f} images, {speed:,.0f} images/s, {left} left"


def duration(seconds: float) -> str:
    """A duration as text, such as "1 h 05 min", "12 min" or "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
