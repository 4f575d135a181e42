"""Large images in tiles that fit in memory, with the same tokens and pixels as the whole image.

Each tile is processed with a margin as wide as the receptive field, which is cropped afterwards.
Floating-point sums may round differently, as they do with another batch size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.evaluation.ssim import WINDOW
from rotvq.model import VQVAE
from rotvq.model.error_functions import ErrorFunction, squared_error, within
from rotvq.model.level_search import LevelSearch
from rotvq.model.patches import Attention
from rotvq.quantization import MultiScaleQuantizer

SIDE, SEARCH_SIDE = 1024, 512
"""Approximate side of a tile in pixels, without its margin: to encode or decode, and to search."""


def reach(network: nn.Module) -> int | None:
    """How many tokens away an input can affect an output; None with attention, which has no limit.

    No convolution reaches further than one token.
    """
    if any(isinstance(part, Attention) for part in network.modules()):
        return None
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    found = [part for part in network.modules() if isinstance(part, convolutions)]
    return sum(max(part.kernel_size) > 1 for part in found)


def margin(model: VQVAE, network: nn.Module) -> int | None:
    """The reach of one of its networks; None with several scales, whose tokens span many tiles."""
    return None if isinstance(model.quantizer, MultiScaleQuantizer) else reach(network)


def encode(model: VQVAE, pixels: NDArray[np.uint8], around: int) -> NDArray[np.int64]:
    """Indices (1, rows, columns, *index_shape) of an image (c, h, w), padded with its edge.

    Args:
        model: in evaluation mode.
        pixels: uint8.
        around: width of the margin in tokens, the encoder's `reach`.
    """
    _, height, width = pixels.shape
    grid = -(-height // model.stride), -(-width // model.stride)
    indices = np.empty((1, *grid, *model.quantizer.index_shape), np.int64)
    device = next(model.parameters()).device
    for outer, inner, kept in _tiles(grid, SIDE // model.stride or 1, around):
        x = _cut(pixels, outer, model.stride).to(device)
        indices[0][inner] = model.encode(normalized(x))[0].cpu().numpy()[kept]
    return indices


def search(
    search: LevelSearch,
    model: VQVAE,
    pixels: NDArray[np.uint8],
    indices: NDArray[np.int64],
    around: int,
    error: ErrorFunction,
) -> NDArray[np.int64]:
    """Indices (rows, columns, *index_shape) with a smaller error of the whole image.

    Tiles are searched one after the other: the tokens of a tile change, and those around it stay.
    The error of a tile is that of all pixels that its tokens affect, and of a margin that holds
    every window of the SSIM with such a pixel, so lowering it lowers the error of the image.

    Args:
        search: a search for the model.
        model: in evaluation mode.
        pixels: (c, h, w), uint8.
        indices: the tokens to start from.
        around: the decoder's `reach`.
        error: as in `coding.encode`.
    """
    indices, stride = indices.copy(), model.stride
    device = next(model.parameters()).device
    windows = 0 if error is squared_error else -(-(WINDOW - 1) // stride)
    counts = around + windows
    # The outermost counted pixels depend on more tokens.
    wide = counts + around
    for outer, inner, kept in _tiles(indices.shape[:2], SEARCH_SIDE // stride or 1, wide):
        x = normalized(_cut(pixels, outer, stride).to(device))
        rows, columns = (
            slice(
                max(0, own.start - counts) * stride,
                min((own.stop + counts) * stride, side - part.start * stride),
            )
            for own, part, side in zip(kept, outer, pixels.shape[1:], strict=True)
        )
        free = torch.zeros(indices[outer].shape[:2], dtype=torch.bool)
        free[kept] = True
        first = torch.from_numpy(indices[outer][None]).to(device)
        found = search(x, first, within(rows, columns, error), free)
        indices[inner] = found[0].cpu().numpy()[kept]
    return indices


def _cut(pixels: NDArray[np.uint8], tile: Part, stride: int) -> UInt8[Tensor, "1 c i j"]:
    """The pixels of a tile. Beyond the image, its last row and column are repeated."""
    rows, columns = (
        np.arange(part.start * stride, part.stop * stride).clip(max=side - 1)
        for part, side in zip(tile, pixels.shape[1:], strict=True)
    )
    return torch.from_numpy(pixels[:, rows[:, None], columns][None])


def decode(
    model: VQVAE, indices: NDArray[np.int64], size: tuple[int, int], around: int
) -> NDArray[np.uint8]:
    """The image (1, c, h, w) of indices (1, rows, columns, *index_shape).

    Args:
        model: in evaluation mode.
        indices: indices of one image.
        size: height and width.
        around: width of the margin in tokens, the decoder's `reach`.
    """
    pixels = np.empty((model.channels, *size), np.uint8)
    stride, device = model.stride, next(model.parameters()).device
    for outer, inner, kept in _tiles(indices.shape[1:3], SIDE // stride or 1, around):
        x = model.decode(torch.from_numpy(indices[:, outer[0], outer[1]]).to(device))
        rows, columns = (slice(p.start * stride, p.stop * stride) for p in kept)
        tile = to_uint8(x)[0, :, rows, columns].cpu().numpy()
        top, left = (part.start * stride for part in inner)
        into = pixels[:, top : top + tile.shape[1], left : left + tile.shape[2]]
        into[:] = tile[:, : into.shape[1], : into.shape[2]]
    return pixels[None]


Part = tuple[slice, slice]


def _tiles(grid: tuple[int, ...], side: int, around: int) -> Iterator[tuple[Part, Part, Part]]:
    """Each tile with its margin, without it, and the position of the latter in the former."""
    for top in range(0, grid[0], side):
        for left in range(0, grid[1], side):
            outer, inner, kept = [], [], []
            for first, all_ in ((top, grid[0]), (left, grid[1])):
                last = min(first + side, all_)
                begin = max(0, first - around)
                outer.append(slice(begin, min(all_, last + around)))
                inner.append(slice(first, last))
                kept.append(slice(first - begin, last - begin))
            yield (outer[0], outer[1]), (inner[0], inner[1]), (kept[0], kept[1])
