"""Rendering of pages as HTML and Markdown, through the package's templates."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from rotvq.text import markdown, printable


def render(page: object, template: str) -> str:
    """Render a page through one of the templates (report.html.j2, report.md.j2 …).

    Every text is escaped for the language of the template without a filter, which could be
    forgotten.
    """
    return _environment(".md" in template).get_template(template).render(page=page)


@cache
def _environment(for_markdown: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=_markdown if for_markdown else _printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code_line"] = lambda text: Markup(printable(text))
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(text: str) -> Markup:
    """A name whose lines may end after the marks that join its words."""
    return Markup(re.sub(r"([_/.])(?=[A-Za-z])", r"\1<wbr>", str(escape(printable(text)))))


def _printable(value: Any) -> Any:
    """A text without characters that a page may not hold; jinja2 escapes it for HTML."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else printable(value)


def _markdown(value: Any) -> Any:
    return value if hasattr(value, "__html__") else Markup(markdown(str(value)))
