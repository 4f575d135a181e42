"""Reconstructions as a picture: each row of originals above the row of its reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rotvq.evaluation.evaluate import device_of, evaluating
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.files import write_atomically
from rotvq.model import VQVAE
from rotvq.model.level_search import LevelSearch

PAIRS = 2
WIDTH = 512
"""Approximate width of a row in pixels; it holds at least one image."""


def fixed_images(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "m c h w"]:
    """A few images spread evenly over a split, the same every time."""
    wanted = PAIRS * max(1, WIDTH // images.shape[3])
    spread = torch.linspace(0, len(images) - 1, min(wanted, len(images))).round().long()
    return images[spread.to(images.device)]


@torch.no_grad()
def save_reconstructions(
    path: Path, model: VQVAE, images: UInt8[Tensor, "n c h w"], search: LevelSearch | None = None
) -> None:
    """Write a PNG of images and their reconstructions, from the tokens of a search if given."""
    x = normalized(images.to(device_of(model)))
    with evaluating(model):
        output = model(x)
        found = model.decode(search(x, output.indices)) if search else output.reconstruction
        reconstructions = to_uint8(found)
    columns = -(-len(images) // PAIRS)
    rows = [
        _row(some, columns)
        for pair in zip(images.split(columns), reconstructions.split(columns), strict=True)
        for some in pair
    ]
    pixels = np.concatenate(rows)
    # PIL expects gray images without a channel dimension.
    picture = Image.fromarray(pixels.squeeze(2) if images.shape[1] == 1 else pixels)
    write_atomically(path, lambda target: picture.save(target, format="PNG"))


def _row(images: Tensor, columns: int) -> NDArray[np.uint8]:
    """(n, c, h, w) to (h, columns·w, c), white where images are missing."""
    n, c, h, w = images.shape
    row = np.full((columns, c, h, w), 255, dtype=np.uint8)
    row[:n] = images.cpu().numpy()
    return row.transpose(2, 0, 3, 1).reshape(h, columns * w, c)
