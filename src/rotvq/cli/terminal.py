"""Lines and bars on standard output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from rotvq.text import printable

BAR = 24
"""Characters of a bar: with what stands beside it, a line fits 80 columns."""

LINE_EVERY = 60.0
"""Seconds between two lines about progress where there is no terminal to draw a bar in."""


class Speed(ProgressColumn):
    """Images a second, over the last while."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "… images/s")


class Live(Progress):
    """Bars that are gone at the end, with a line of details below them.

    Args:
        columns: of the bar's line.
        console: to draw on; where it is no terminal, nothing is drawn.
        hidden: draw nothing in a terminal either.
    """

    details = ""

    def __init__(self, *columns: ProgressColumn, console: Console, hidden: bool = False) -> None:
        disable = hidden or not console.is_terminal
        super().__init__(*columns, console=console, transient=True, disable=disable)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, then the details cut to the terminal's width."""
        yield from super().get_renderables()
        if self.details:
            yield Text(self.details, no_wrap=True, overflow="ellipsis", end="")


class Terminal:
    """Prints what a verb has to say.

    Args:
        quiet: print nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.last_line = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line, with what would steer a terminal as escapes."""
        self.console.print(printable(text), markup=False)
        self.last_line = time.monotonic()

    def log(self, text: Callable[[], str]) -> None:
        """Print a progress line at most once a minute, and only where no bar is drawn."""
        if not self.console.is_terminal and time.monotonic() - self.last_line >= LINE_EVERY:
            self.say(text())

    @contextmanager
    def counting(self, total: int | None, doing: str) -> Iterator[Callable[[int], None]]:
        """A bar over so many images; call the yielded function with each batch's number."""
        columns = (TextColumn(doing), BarColumn(BAR), Speed(), TimeRemainingColumn())
        since = time.monotonic()
        with Live(*columns, console=self.console) as bar:
            task = bar.add_task("", total=total)

            def advance(images: int) -> None:
                bar.advance(task, images)
                done = bar.tasks[0].completed
                self.log(lambda: f"{doing}: {counted(done, total, time.monotonic() - since)}")

            yield advance


def counted(done: float, total: float | None, seconds: float, before: float = 0) -> str:
    """How far something is, as "1,200 of 5,000 images, 400 images/s, 10 s left".

    Args:
        done: images so far, `before` of them before the clock was started.
        total: images in all, if that is known.
        seconds: on the clock.
    """
    speed = (done - before) / seconds
    if total is None:
        return f"{done:,.0f} images, {speed:,.0f} images/s"
    left = duration((total - done) / speed)
    return f"{done:,.0f} of {total:,.0f} images, {speed:,.0f} images/s, {left} left"


def duration(seconds: float) -> str:
    """As "1 h 05 min", "12 min" or "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
