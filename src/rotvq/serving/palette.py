"""What each code looks like, and an order in which neighbors look alike."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from rotvq.evaluation.pixels import to_uint8
from rotvq.model import VQVAE

AROUND = 3
"""A code is shown by the central token of a square of so many tokens a side, all of that code."""

TALL = 1.5
"""Rows of the grid for each column, about."""

_ROUNDS, _SWAPS = 64, 2**16
"""Rounds of swaps for each radius, and codes that are swapped in all of them, at most."""


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


def arrange(features: Float[Tensor, "k d"]) -> NDArray[np.int64]:
    """An order of codes which, row by row on the grid, puts similar ones side by side.

    Starting from rows of similar lightness, pairs of cells swap their codes wherever both come
    closer to the mean around them, which is taken over smaller and smaller neighborhoods: a
    self-sorting map (Strong & Gong 2014).

    Args:
        features: of the codes; the first is their lightness.
    """
    k, wide = len(features), columns(len(features))
    tall = -(-k // wide)
    generator = torch.Generator().manual_seed(0)
    order = features[:, 0].argsort()
    radius = max(wide, tall) // 2
    while radius >= 1:
        for _ in range(min(_ROUNDS, max(8, _SWAPS // k))):
            around = _means(features[order], wide, tall, radius)
            left, right = torch.randperm(k, generator=generator)[: k // 2 * 2].view(2, -1)
            a, b = features[order[left]], features[order[right]]
            # Swapping lowers the squared distance to the means by twice this product.
            better = ((a - b) * (around[right] - around[left])).sum(1) > 0
            left, right = left[better], right[better]
            order[left], order[right] = order[right], order[left]
        radius = radius * 3 // 4
    return order.numpy()


def _means(
    features: Float[Tensor, "k d"], wide: int, tall: int, radius: int
) -> Float[Tensor, "k d"]:
    """The mean of the features in a square around each cell; cells after the last are left out."""
    k = len(features)
    cells = F.pad(torch.cat([features, torch.ones(k, 1)], 1), (0, 0, 0, wide * tall - k))
    image = cells.T.reshape(1, -1, tall, wide)
    for size, margin in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
        image = F.avg_pool2d(image, size, 1, margin)
    sums = image.flatten(2)[0].T[:k]
    return sums[:, :-1] / sums[:, -1:]
