"""Room for images: in memory, or on the disk where memory would not hold them."""

from __future__ import annotations

import math
import os
import shutil
import tempfile

import numpy as np
import psutil
from numpy.typing import NDArray

from rotvq.errors import UserError

SHARE = 0.5
"""Of the memory that is free now; the rest is for what the images are wanted for."""


def room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array of that shape, C-contiguous, its content undefined.

    One that memory would not hold lies in a file in the folder for temporary files (TMPDIR), which
    is gone when the array is: the system keeps in memory what is read often.

    Raises UserError where the disk would not hold it either.
    """
    size = math.prod(shape)
    if size <= SHARE * psutil.virtual_memory().available:
        return np.empty(shape, np.uint8)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"the images take {size / 2**30:,.1f} GiB: more than memory holds, and {folder} has "
            f"{free / 2**30:,.1f} GiB left. Pass a smaller --data.size, or set TMPDIR to a larger "
            "disk"
        )
    descriptor, path = tempfile.mkstemp(prefix="rotvq-images-", dir=folder)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            if hasattr(os, "posix_fallocate"):  # so that no one else takes the room meanwhile
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "w+", shape=shape)
    finally:
        if os.name != "nt":  # Windows removes no file that is in use.
            os.unlink(path)
