"""What a test asks of a picture."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pixels() -> Callable[[bytes], np.ndarray]:
    """A PNG as (height, width, 3) uint8."""
    return lambda png: np.asarray(Image.open(BytesIO(png)).convert("RGB"))


@pytest.fixture
def count(pixels) -> Callable[[bytes, str], int]:
    """How many pixels of a PNG have a colour, as "#0072B2"."""

    def counted(png: bytes, colour: str) -> int:
        value = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((pixels(png) == value).all(axis=-1).sum())

    return counted
