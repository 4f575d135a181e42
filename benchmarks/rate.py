"""Tiles, metrics and interpolation for a codec at a given rate. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rotvq.evaluation.metrics import psnr_of_each
from rotvq.evaluation.ssim import gaussian_ssim, uniform_ssim

Pictures = NDArray[Any]
"""(n, h, w, 3), from 0 to 255."""


def tiled(images: Pictures, side: int) -> Pictures:
    """side x side images as one picture, row by row."""
    _, height, width, _ = images.shape
    grid = images.reshape(side, side, height, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(1, side * height, side * width, 3)


def untiled(picture: Pictures, side: int) -> Pictures:
    """The inverse of `tiled`."""
    height, width = (size // side for size in picture.shape[1:3])
    grid = picture.reshape(side, height, side, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, height, width, 3)


def metrics(decoded: Pictures, images: Pictures) -> dict[str, float]:
    """Means over images."""
    parts = []
    for start in range(0, len(images), 256):
        y, x = (_normalized(each[start : start + 256]) for each in (decoded, images))
        mse = (y - x).square().mean((1, 2, 3))
        parts.append(torch.stack([mse, psnr_of_each(mse), gaussian_ssim(y, x), uniform_ssim(y, x)]))
    names = ("mse", "psnr_per_image", "ssim", "ssim_uniform_7x7")
    return dict(zip(names, torch.cat(parts, 1).double().mean(1).tolist(), strict=True))


def bracket(bits: Callable[[int], float], levels: int, start: int, target: float) -> list[int]:
    """The last level below a rate and the first that reaches it.

    Args:
        bits: rate of a level; grows with the level.
        levels: number of levels, counted from 0.
        start: the level to begin with.
        target: rate.

    Returns:
        Two neighbors; the lowest level alone if it reaches the rate already.

    Raises:
        ValueError: no level reaches the rate.
    """
    level = start
    while level > 0 and bits(level) >= target:
        level -= 1
    if bits(level) >= target:
        return [level]
    while bits(level + 1) < target:
        level += 1
        if level + 1 == levels:
            raise ValueError(f"levels: expected one of {target:g} bits; got {bits(level):g}.")
    return [level, level + 1]


def at(target: float, low: dict[str, float], high: dict[str, float]) -> dict[str, float]:
    """Metrics at a rate between two measurements.

    Linear over the logarithm of the rate, and the MSE as its logarithm.
    """
    below, reached, wanted = (
        math.log(bits) for bits in (low["bits_per_image"], high["bits_per_image"], target)
    )
    share = (wanted - below) / (reached - below)
    found = {
        name: low[name] + share * (high[name] - low[name])
        for name in ("psnr_per_image", "ssim", "ssim_uniform_7x7")
    }
    return {"mse": low["mse"] ** (1 - share) * high["mse"] ** share, **found}


def _normalized(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
