"""What each code looks like, and an order in which neighbors look alike."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from rotvq.arrangement import arrange
from rotvq.evaluation.pixels import to_uint8
from rotvq.model import VQVAE

AROUND = 3
"""A code is shown by the central token of a square of so many tokens a side, all of that code."""

TALL = 1.5
"""Rows of the grid for each column, about."""


@torch.no_grad()
def patches(model: VQVAE) -> UInt8[Tensor, "k c s s"]:
    """The stride x stride pixels that a token decodes to in an area of tokens of the same code."""
    middle = slice(AROUND // 2 * model.stride, (AROUND // 2 + 1) * model.stride)
    codes = torch.arange(model.quantizer.codebook_sizes[0], device=next(model.parameters()).device)
    return torch.cat(
        [
            to_uint8(model.decode(some[:, None, None].expand(-1, AROUND, AROUND).contiguous()))[
                :, :, middle, middle
            ].cpu()
            for some in codes.split(1024)
        ]
    )


def look(pixels: UInt8[Tensor, "k c s s"]) -> Float[Tensor, "k d"]:
    """Features of patches, whose distance tells how different they look.

    Lightness, then the color apart from it (3), then slopes and contrast.
    """
    x = pixels.float() / 255
    color, light = x.mean((2, 3)), x.mean(1)
    mean = color.mean(1, keepdim=True)
    detail = light - mean[:, :, None]
    half = pixels.shape[-1] // 2
    slopes = [detail[:, half:].mean((1, 2)), detail[:, :, half:].mean((1, 2))]
    contrast = detail.square().mean((1, 2)).sqrt()
    return torch.cat([mean, 2 * (color - mean), torch.stack([*slopes, contrast], 1)], 1)


def columns(k: int) -> int:
    """Columns of a grid of k codes."""
    return math.ceil(math.sqrt(k / TALL))


def arranged(features: Float[Tensor, "k d"]) -> NDArray[np.int64]:
    """An order of codes which, row by row on the grid, puts similar ones side by side.

    Args:
        features: of the codes; the first is their lightness.
    """
    lightness = features[:, 0].argsort(stable=True).numpy()
    return arrange(features.numpy(), lightness, columns(len(features)))
