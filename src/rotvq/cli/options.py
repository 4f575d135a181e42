"""Parsers that raise a UserError where others print and exit."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, NoReturn

from rotvq.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse with whole option names and one-line errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message}. See {self.prog} --help.")


def guarded(parse: Callable[[], Any], prog: str) -> Any:
    """Turn what jsonargparse complains of into one line in our form."""
    try:
        return parse()
    except (UnicodeError, OSError) as error:
        raise UserError(f"expected a readable file; {' '.join(str(error).split())}.") from None
    except (argparse.ArgumentError, TypeError) as error:
        raise UserError(f"{_in_our_words(str(error))}. See {prog} --help.") from None


def _in_our_words(message: str) -> str:
    key = re.search(r'Parser key "([^"]+)"', message)
    value = re.search(r"(?:Given|Got) value: (.*)", message.splitlines()[-1])
    kinds = re.findall(r"Expected an? (<class '\w+'>|typing\.Literal\[.+?\])", message)
    if not (key and value and kinds):
        plain = re.sub(r"<?functools\.partial.*", "of another kind", message, flags=re.DOTALL)
        return " ".join(plain.split()).rstrip(".")
    kinds = [re.sub(r"<class '(\w+)'>|typing\.Literal\[(.+)\]", r"\1\2", kind) for kind in kinds]
    expected = " or ".join("null" if kind == "NoneType" else kind for kind in kinds)
    return f"{key[1]}: expected {expected}; got {value[1]}"
