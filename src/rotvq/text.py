"""Text from strangers (names of files, captions, messages of decoders) made safe to show."""

from __future__ import annotations

import re

# C0 and C1 control characters start terminal escapes; U+2028 and U+2029 break lines; the
# bidirectional controls (U+202A-202E, U+2066-2069) show a name in another order than its own;
# lone surrogates stand for bytes of a path that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_MARKUP = re.compile(
    r"[\\`*\[\]{}#|&<>~$@^]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # inside a word it is no emphasis
    r"|:(?=//)|(?<=www)\."  # what some renderers make links of
    r"|^[!=:/%?]|^[-+](?![\w.])"  # what makes a block of a line that it begins
)
_BACKSLASHED = "\\`*_[]{}()#+-.!|"
"""What every renderer takes a backslash before; the rest are written as character references."""

_ITEM = re.compile(r"^([0-9]{1,9})([.)])(?!\S)")


def printable(text: str) -> str:
    r"""The text in one line, with control characters and stray bytes as escapes such as \x1b."""
    return _UNSAFE.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    short = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
    return short.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def encodable(name: str) -> str:
    """The name of a file as text that UTF-8 can write: stray bytes of a path become %XX."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)


def markdown(text: str) -> str:
    """Markdown that shows a text as it is: in a line of its own or not, in a table or not.

    Not for code blocks, which show their content as it is: `printable` is enough for a line there.
    """
    line = printable(" ".join(text.split()))
    return _ITEM.sub(r"\1\\\2", _MARKUP.sub(_as_text, line))


def _as_text(match: re.Match[str]) -> str:
    character = match[0]
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return named.get(
        character, f"\\{character}" if character in _BACKSLASHED else f"&#{ord(character)};"
    )
