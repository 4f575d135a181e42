"""Untrusted text (file names, captions, messages of decoders) made safe to display."""

from __future__ import annotations

import re
from collections.abc import Sequence

# C0 and C1 control characters start terminal escapes; U+2028 and U+2029 break lines; the
# bidirectional controls (U+202A-202E, U+2066-2069) display a name in another order;
# lone surrogates stand for bytes of a path that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_MARKUP = re.compile(
    r"[\\`*\[\]{}#|&<>~$@^]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # emphasis, except inside a word
    r"|:(?=//)|(?<=www)\."  # what some renderers turn into links
    r"|^[!=:/%?]|^[-+](?![\w.])"  # what starts a block at the beginning of a line
)
_BACKSLASHED = "\\`*_[]{}()#+-.!|"
"""Characters every renderer accepts after a backslash; others become character references."""

_ITEM = re.compile(r"^([0-9]{1,9})([.)])(?!\S)")


def printable(text: str) -> str:
    r"""The text on one line, with control characters and stray bytes escaped, as in \x1b."""
    return _UNSAFE.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    short = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
    return short.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def counted(number: int, noun: str) -> str:
    """A number with its noun, as in "1 image" and "2,000 images"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def first_few(names: Sequence[str], most: int = 20) -> str:
    """Names separated by commas; … stands for those after the first ones."""
    return ", ".join([*names[:most], "…"] if len(names) > most else names)


def encodable(name: str) -> str:
    """A file name that UTF-8 can encode: stray bytes of a path become %XX."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)


def markdown(text: str) -> str:
    """Markdown that shows a text unchanged, at the start of a line, inside it or in a table.

    Do not use it in code blocks, which show their content unchanged; `printable` is enough there.
    """
    line = printable(" ".join(text.split()))
    return _ITEM.sub(r"\1\\\2", _MARKUP.sub(_as_text, line))


def _as_text(match: re.Match[str]) -> str:
    character = match[0]
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return named.get(
        character, f"\\{character}" if character in _BACKSLASHED else f"&#{ord(character)};"
    )
