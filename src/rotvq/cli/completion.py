"""rotvq completion: a script that completes verbs and options in a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO

from rotvq.cli.main import VERBS
from rotvq.cli.options import Parser

BASH = """\
_rotvq() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words="{verbs}"
  if [ "$COMP_CWORD" -gt 1 ]; then
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o bashdefault -o default -F _rotvq rotvq
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def run(argv: Sequence[str]) -> int:
    """Print the script. Returns the exit status."""
    parser = Parser(
        prog="rotvq completion",
        description="Print a script that completes verbs, options and file names.",
        epilog='example: eval "$(rotvq completion bash)", for good in ~/.bashrc',
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    shell = parser.parse_args(argv).shell
    options = {verb: _options(verb) for verb in VERBS}
    print(_fish(options) if shell == "fish" else ZSH * (shell == "zsh") + _bash(options), end="")
    return 0


def _options(verb: str) -> list[str]:
    """The long options that the verb's help names."""
    said = StringIO()
    with redirect_stdout(said):
        try:
            import_module(f"rotvq.cli.{verb}").run(["--help"])
        except SystemExit:
            pass
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", said.getvalue())))


def _bash(options: Mapping[str, Sequence[str]]) -> str:
    cases = [f'      {verb}) words="{" ".join(found)}" ;;' for verb, found in options.items()]
    return BASH.format(verbs=" ".join(options), cases="\n".join(cases))


def _fish(options: Mapping[str, Sequence[str]]) -> str:
    lines = []
    for verb, found in options.items():
        said = VERBS[verb].replace("'", "\\'")
        lines.append(f"complete -c rotvq -n __fish_use_subcommand -f -a {verb} -d '{said}'")
        for option in found:
            seen = f"'__fish_seen_subcommand_from {verb}'"
            lines.append(f"complete -c rotvq -n {seen} -l {option.removeprefix('--')}")
    return "\n".join(lines) + "\n"
