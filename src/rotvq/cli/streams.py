"""Standard streams that hold whatever a command has to say, or hold nothing without an error."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Open streams that the shell closed, and let the others escape what they cannot encode.

    A closed descriptor would be given to the next file that is opened, and what is printed would
    be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Let what is left to print go nowhere, so that Python's own last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
