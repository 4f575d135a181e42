"""Arrays for images: in memory if they fit, otherwise on disk."""

from __future__ import annotations

import math
import os
import shutil
import tempfile

import numpy as np
from numpy.typing import NDArray

from rotvq.errors import UserError

SHARE = 0.5
"""Share of the available memory to use; the rest is for what is done with the images."""


def room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A C-contiguous array of that shape with undefined content.

    An array that does not fit in memory is mapped to a file in the folder for temporary files
    (TMPDIR), which disappears with the array; the system caches the parts in use.

    Raises:
        UserError: it does not fit on disk either.
    """
    # Imported late: only loading a whole dataset needs it.
    import psutil

    size = math.prod(shape)
    if size <= SHARE * psutil.virtual_memory().available:
        return np.empty(shape, np.uint8)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"images: expected {size / 2**30:,.1f} GiB free in memory or in {folder}; got "
            f"{free / 2**30:,.1f} GiB on disk. Pass a smaller --data.size, or set TMPDIR to a "
            "folder on a larger disk."
        )
    descriptor, path = tempfile.mkstemp(prefix="rotvq-images-", dir=folder)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            if hasattr(os, "posix_fallocate"):  # reserves the space
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "w+", shape=shape)
    finally:
        if os.name != "nt":  # Windows cannot remove a file that is in use.
            os.unlink(path)
