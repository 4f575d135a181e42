"""The exception that the command line reports in a single line."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake the user can fix: states what was expected, what was received, what to do."""


def installation(extra: str) -> str:
    """How to install an extra such as "onnx"; pip keeps the rotvq that is already installed."""
    return f"Run pip install 'rotvq[{extra}]'"


def first_line(error: BaseException) -> str:
    """An exception's first line without a final period; its class if it has no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")
