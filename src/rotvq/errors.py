"""The one exception that the command line turns into a single line."""

from __future__ import annotations


class UserError(ValueError):
    """Something the caller can put right: says what was expected, what was received, what to do."""


def installation(extra: str) -> str:
    """How to install an optional extra such as "onnx": the command, and where to run it."""
    return f"In a checkout of the repository, run pip install -c constraints.txt -e '.[{extra}]'"


def first_line(error: BaseException) -> str:
    """What an exception says, in one line without a full stop; its class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")
