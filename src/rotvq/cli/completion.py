"""rotvq completion: a script that completes commands, options and their values in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from itertools import chain
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from rotvq.cli.main import COMMANDS
from rotvq.cli.options import Parser
from rotvq.paths import expanded


def run(argv: Sequence[str]) -> int:
    """Print the script. Returns the exit status."""
    parser = Parser(
        prog="rotvq completion",
        description="Print a script that completes commands, options, their values and file names.",
        epilog='example: eval "$(rotvq completion bash)"; add the line to ~/.bashrc to keep it',
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    shell = parser.parse_args(argv).shell
    import shtab

    print(shtab.complete(_whole(), shell))
    return 0


def _whole() -> argparse.ArgumentParser:
    """One parser with all commands as subcommands."""
    whole = argparse.ArgumentParser(prog="rotvq")
    whole.add_argument("-V", "--version", action="version", help="show the version")
    commands = whole.add_subparsers()
    for name, summary in COMMANDS.items():
        options = _parser(name)
        known = [word for action in options._actions for word in action.option_strings]
        for action in options._actions:
            _complete(action)
            # jsonargparse adds --training next to --training.epochs; rotvq does not accept it.
            if any(word.startswith(f"{name}.") for name in action.option_strings for word in known):
                action.help = argparse.SUPPRESS
        command = commands.add_parser(
            name, help=summary, parents=[options], add_help=False, conflict_handler="resolve"
        )
        for short in getattr(import_module(f"rotvq.cli.{name}"), "SHORT", ()):
            _complete(command.add_argument(short))
    return whole


def _parser(command: str) -> argparse.ArgumentParser:
    """The parser that prints the help of a command."""
    found: list[argparse.ArgumentParser] = []
    original = argparse.ArgumentParser.print_help
    argparse.ArgumentParser.print_help = lambda self, file=None: found.append(self)  # type: ignore[method-assign]
    try:
        with suppress(SystemExit):
            import_module(f"rotvq.cli.{command}").run(["--help"])
    finally:
        argparse.ArgumentParser.print_help = original  # type: ignore[method-assign]
    return found[0]


def _complete(action: argparse.Action) -> None:
    """Declare to shtab whether an argument takes a choice, a file, or neither."""
    # jsonargparse keeps the type annotation of a configuration field here.
    kind = getattr(action, "_typehint", action.type)
    if (
        hasattr(action, "_typehint") and action.help
    ):  # from a docstring; shtab expects a format string
        action.help = action.help.replace("%", "%%")
    if action.choices or action.nargs == 0:
        return
    if choices := _choices(kind):
        action.choices = choices
    elif {None, str, expanded} & {kind, *get_args(kind)}:
        import shtab

        action.complete = shtab.FILE  # type: ignore[attr-defined]


def _choices(kind: Any) -> list[str]:
    """The values of a type with only a few values; empty for any other type."""
    if kind is bool:
        return ["true", "false"]
    if kind is NoneType:
        return ["null"]
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    parts = [_choices(part) for part in get_args(kind)]
    return [*chain.from_iterable(parts)] if all(parts) else []
