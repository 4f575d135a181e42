"""Makes the standard streams accept any output, even when they are closed."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Open streams that the shell closed, and escape characters that the others cannot encode.

    Otherwise the next file to be opened would get the closed descriptor, and output would be
    written to it.
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
    """Discard remaining output, so that Python's final flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
