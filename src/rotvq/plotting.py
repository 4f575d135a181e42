"""Pictures for a notebook: the codes of a model, and how images use them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluating
from rotvq.evaluation.pixels import normalized
from rotvq.model import VQVAE
from rotvq.report.codebook import Looks, sheet
from rotvq.tokens.code_pictures import MOST_CODES, code_pictures
from rotvq.tokens.collection import Tokens

IMAGES = 12
"""Images in a plot of their codes, at most."""

MOST_IN_REPORT = 4096
"""Codes that a report shows, at most, so that it stays small."""


def plot_codebook(model: VQVAE, title: str = "Codebook") -> Image.Image:
    """A picture of every code of a model, similar codes side by side.

    Each code is decoded in the middle of the tokens of a mid-gray image; the tile shows its token
    and half of the neighboring ones. With up to 1,024 codes, tiles are numbered. Several codebooks
    (residual or grouped) get a section each, in which only their index of the token varies.

    Args:
        model: in evaluation mode during the call.
        title: of the picture.

    Returns:
        An RGB image, about 1,600 pixels wide.

    Raises:
        UserError: the model has more than 65,536 codes altogether, or several scales.
    """
    _check_number(model, MOST_CODES, " Decode the codes of interest with model.decode.")
    return sheet(_codes(model, title))


def looks(model: VQVAE, images: Sequence[NDArray[np.uint8]]) -> Looks:
    """What a report shows of a model: the codes, and images drawn with them.

    Args:
        model: in evaluation mode during the call.
        images: RGB, each (n, height, width, 3).

    Raises:
        UserError: the model has more than 4,096 codes altogether, or several scales.
    """
    _check_number(model, MOST_IN_REPORT)
    codes = _codes(model, "Codebook")
    start = model.stride // 2
    tiles = codes[0][1][:, start : start + model.stride, start : start + model.stride]
    drawn = []
    with evaluating(model):
        for some in images:
            pixels = torch.from_numpy(some.copy()).permute(0, 3, 1, 2)[:, : model.channels]
            grid = model.encode(normalized(pixels))
            first = grid.reshape(*grid.shape[:3], -1)[..., 0].cpu().numpy()
            # (n, rows, columns, s, s, 3) to images.
            n, rows, columns = first.shape
            mosaic = tiles[first].transpose(0, 1, 3, 2, 4, 5)
            drawn.append(mosaic.reshape(n, rows * model.stride, columns * model.stride, 3))
    return Looks(drawn, codes)


def _check_number(model: VQVAE, most: int, remedy: str = "") -> None:
    number = sum(model.quantizer.codebook_sizes)
    if number > most:
        raise UserError(
            f"codebook: expected at most {most:,} codes to draw; got {number:,}.{remedy}"
        )


def _codes(model: VQVAE, title: str) -> list[tuple[str, NDArray[np.uint8]]]:
    """For each codebook, its title and the pictures of its codes, (k, s, s, 3)."""
    sizes = model.quantizer.codebook_sizes
    sections = []
    for number, size in enumerate(sizes):
        which = f" {number + 1} of {len(sizes)}" if len(sizes) > 1 else ""
        about = f"{title}{which}: {size:,} codes, each decoded in the middle of a mid-gray image"
        pixels = code_pictures(model, number).permute(0, 2, 3, 1)
        sections.append((about, pixels.expand(-1, -1, -1, 3).numpy()))
    return sections


def plot_usage(tokens: Tokens, codebook: int = 0) -> Image.Image:
    """How each image uses the codes: where common codes lie, and how often each code occurs.

    Needs matplotlib (`rotvq[train]`).

    Args:
        tokens: of 1 to 12 images.
        codebook: which index of each token, if there are several codebooks.

    Returns:
        An RGB image with a row for each image. Left: each token, colored by how many tokens of the
        image have its code. Right: the number of tokens of each code, in descending order.

    Raises:
        UserError: too many images or none, no such codebook, or tokens of several scales.
    """
    from rotvq.report.usage import usage

    sizes = tokens.codec.codebook_sizes
    if not 1 <= len(tokens) <= IMAGES:
        raise UserError(
            f"tokens: expected 1 to {IMAGES} images; got {len(tokens):,}. Pass a slice, such as "
            f"tokens[:{IMAGES}]."
        )
    if tokens.codec.scales:
        raise UserError(
            "tokens: expected one map of tokens for each image; got maps of several scales."
        )
    if codebook not in range(len(sizes)):
        raise UserError(f"codebook: expected 0 to {len(sizes) - 1}; got {codebook}.")
    grids = [each.reshape(*each.shape[:2], -1)[:, :, codebook] for each in tokens]
    titles = [f"image {number}" for number in range(len(tokens))]
    if tokens.names is not None:
        titles = [name or title for name, title in zip(tokens.names, titles, strict=True)]
    image = Image.open(BytesIO(usage(grids, sizes[codebook], titles)))
    return image.convert("RGB")
