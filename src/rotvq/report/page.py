"""A page of sections with pictures and tables, written as HTML and as Markdown."""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rotvq.errors import UserError
from rotvq.files import write_bytes, write_text
from rotvq.guarded import check_not_linked
from rotvq.report.tables import Fact, Row
from rotvq.report.templating import render


class Picture(NamedTuple):
    """A PNG with its file name, its width on the page in pixels, alternative text and caption.

    A plot, unlike images, is inverted on a dark page.
    """

    name: str
    png: bytes
    width: int
    alt: str
    caption: str
    is_plot: bool = False

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        return f"data:image/png;base64,{b64encode(self.png).decode('ascii')}"


class Table(NamedTuple):
    """Named rows under columns; `title` is read to those who do not see it.

    Words are set to the left, numbers to the right. A click on a column of a sortable table sorts
    its rows.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    first: str = ""
    numbers: bool = True
    sortable: bool = False


class Section(NamedTuple):
    """A part of the page, in the order of its fields; a folded one opens on a click."""

    title: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()
    table: Table | None = None
    note: str = ""
    facts: tuple[Fact, ...] = ()
    commands: tuple[str, ...] = ()
    is_folded: bool = False


@dataclass(frozen=True)
class Page:
    """Everything that the templates show, in the order of the page."""

    title: str
    lead: str
    notices: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in the order of the page."""
        return tuple(picture for section in self.sections for picture in section.pictures)

    @property
    def is_sortable(self) -> bool:
        """Whether the page needs the script that sorts tables."""
        return any(section.table and section.table.sortable for section in self.sections)


def write_page(
    page: object, pictures: Iterable[Picture], out: Path, name: str, template: str | None = None
) -> None:
    """Write NAME.html and NAME.md through templates of that name or another, and the figures.

    Raises:
        UserError: `out` cannot be written, or `figures` is a link to another folder.
    """
    folder = out / "figures"
    try:
        check_not_linked(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            write_bytes(folder / picture.name, picture.png)
        for kind in ("md", "html"):
            write_text(out / f"{name}.{kind}", render(page, f"{template or name}.{kind}.j2"))
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: expected a writable folder for the report; got "
            f"{error.strerror}. Choose another one."
        ) from None
