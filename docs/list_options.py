"""Writes the tables of docs/options.md from the configuration: python docs/list_options.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docstring_parser import parse

from rotvq.training.config import GROUPS

PAGE = Path(__file__).parent / "options.md"
MARK = "## All options\n"


def tables() -> str:
    """A heading and a table for each group of options, from its docstring, types and defaults."""
    return "\n".join(line for name, group in GROUPS.items() for line in _table(name, group))


def _table(name: str, group: Any) -> Iterator[str]:
    about = parse(group.__doc__)
    params = [p for kind in group.__mro__ for p in parse(kind.__doc__ or "").params]
    texts = {p.arg_name: " ".join((p.description or "").split()) for p in params}
    hints = get_type_hints(group)
    yield f"\n### {(about.short_description or name).rstrip('.')}\n"
    yield "| option | | default | choices |\n|---|---|---|---|"
    for entry in fields(group):
        hint = hints[entry.name]
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        listed = ", ".join(f"`{choice}`" for choice in choices)
        text = texts[entry.name].replace("|", r"\|")
        yield f"| `--{name}.{entry.name}` | {text} | `{_yaml(entry.default)}` | {listed} |"


def _yaml(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{before}{MARK}{tables()}\n", encoding="utf-8")
