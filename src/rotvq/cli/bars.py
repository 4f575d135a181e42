"""Progress bars, drawn by rich."""

from __future__ import annotations

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

BAR = 24
"""Width of a bar in characters, so that its line fits in 80 columns."""


class Speed(ProgressColumn):
    """Recent speed in images per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "… images/s")


class Live(Progress):
    """Bars that disappear when done, with a line of details below them.

    Args:
        columns: the columns of a bar's line.
        console: the console to draw on; nothing is drawn unless it is a terminal.
        hidden: do not draw in a terminal either.
    """

    details = ""

    def __init__(self, *columns: ProgressColumn, console: Console, hidden: bool = False) -> None:
        disable = hidden or not console.is_terminal
        super().__init__(*columns, console=console, transient=True, disable=disable)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, then the details, truncated to the terminal's width."""
        yield from super().get_renderables()
        if self.details:
            yield Text(self.details, no_wrap=True, overflow="ellipsis", end="")


class PipedConsole(Console):
    """A console that lets its caller handle a closed pipe; rich would exit with status 1."""

    def on_broken_pipe(self) -> None:
        """Re-raise the BrokenPipeError being handled."""
        raise


@contextmanager
def bar(
    console: Console, total: int | None, doing: str, details: Callable[[], str]
) -> Iterator[Callable[[int], None]]:
    """Draw a bar over `total` images; call the yielded function with the size of each batch."""
    columns = (TextColumn(doing), BarColumn(BAR), Speed(), TimeRemainingColumn())
    with Live(*columns, console=console) as live:
        task = live.add_task("", total=total)

        def draw(images: int) -> None:
            live.details = details()
            live.advance(task, images)

        yield draw
