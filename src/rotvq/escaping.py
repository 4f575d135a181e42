"""Text that someone else chose (names, commands, captions), where it must stay text."""

from __future__ import annotations

import re

_MARKUP = re.compile(
    r"[\\`*\[\]{}#|&<>~$@^]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # inside a word it is no emphasis
    r"|:(?=//)|(?<=www)\."  # what some renderers make links of
    r"|^[!=:/%?]|^[-+](?![\w.])"  # what makes a block of a line that it begins
)
_BACKSLASHED = "\\`*_[]{}()#+-.!|"
"""What every renderer takes a backslash before; the rest are written as character references."""

_ITEM = re.compile(r"^([0-9]{1,9})([.)])(?!\S)")
_JOINERS = "\u200c\u200d"
"""Part of words in some scripts, and of emoji."""


def printable(text: str) -> str:
    r"""Text as one line; what cannot be printed is shown as in Python: \x1b, \u202e, \udcff."""
    if text.isprintable():
        return text
    return "".join(
        " " if c.isspace() else c if c.isprintable() or c in _JOINERS else ascii(c)[1:-1]
        for c in text
    )


def markdown(text: str) -> str:
    """Markdown that shows a text as it is: in a line of its own or not, in a table or not.

    Not for code blocks, which show their content as it is: `printable` is enough for a line there.
    """
    line = " ".join(printable(text).split())
    return _ITEM.sub(r"\1\\\2", _MARKUP.sub(_escaped, line))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return named.get(
        character, f"\\{character}" if character in _BACKSLASHED else f"&#{ord(character)};"
    )
