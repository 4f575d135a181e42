"""Lines and bars on standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
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


class Speed(ProgressColumn):
    """Images a second, over the last while."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "… images/s")


class Terminal:
    """Prints what a verb has to say.

    Args:
        quiet: print nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(highlight=False, soft_wrap=True, quiet=quiet)

    def say(self, text: str) -> None:
        """Print a line, with what would steer a terminal as escapes."""
        self.console.print(printable(text), markup=False)

    @contextmanager
    def counting(self, total: int | None, doing: str) -> Iterator[Callable[[int], None]]:
        """A bar over so many images; call the yielded function with each batch's number."""
        columns = (TextColumn(doing), BarColumn(), Speed(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task("", total=total)
            yield lambda images: bar.advance(task, images)
