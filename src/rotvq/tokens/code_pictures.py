"""What each code looks like: decoded in the middle of neutral tokens."""

from __future__ import annotations

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluating
from rotvq.evaluation.pixels import to_uint8
from rotvq.model import VQVAE
from rotvq.quantization import MultiScaleQuantizer

MOST_CODES = 2**16
"""Maximum number of codes that are decoded."""

GRID = 5
"""Side of the grid of tokens that is decoded for each code."""

_PIXELS = 2**20
"""Approximate number of pixels decoded at a time."""


@torch.no_grad()
def neutral_token(model: VQVAE) -> Int64[Tensor, "*levels"]:
    """The indices of a token in the middle of a uniform mid-gray image."""
    side = GRID * model.stride
    gray = torch.zeros(1, model.channels, side, side, device=next(model.parameters()).device)
    with evaluating(model):
        return model.encode(gray)[0, GRID // 2, GRID // 2]


@torch.no_grad()
def code_pictures(model: VQVAE, codebook: int = 0) -> UInt8[Tensor, "k c s s"]:
    """A picture of each code of a codebook, in their order, on the CPU.

    It shows the token and half of its neighbors. The neighbors, and the other indices of the token
    itself if there are several codebooks, are those of a mid-gray image.

    Args:
        model: put in evaluation mode during the call.
        codebook: index of the codebook in `quantizer.codebook_sizes`.

    Raises:
        UserError: the codebook is too large, or the model has several scales.
    """
    if isinstance(model.quantizer, MultiScaleQuantizer):
        raise UserError(
            "codebook: expected codes of single positions; got those of a MultiScaleQuantizer, "
            "which cover areas. To see what its tokens keep, use rotvq reconstruct --levels."
        )
    size = model.quantizer.codebook_sizes[codebook]
    if size > MOST_CODES:
        raise UserError(
            f"codebook: expected at most {MOST_CODES:,} codes to draw; got {size:,}. Decode the "
            "codes of interest with model.decode."
        )
    around, start = neutral_token(model), GRID // 2 * model.stride
    shown = slice(start - model.stride // 2, start + model.stride + model.stride // 2)
    pictures = []
    with evaluating(model):
        for codes in torch.arange(size).split(max(1, _PIXELS // (GRID * model.stride) ** 2)):
            grids = around.expand(len(codes), GRID, GRID, *around.shape).clone()
            tokens = grids[:, GRID // 2, GRID // 2].view(len(codes), -1)
            tokens[:, codebook] = codes.to(tokens.device)
            pictures.append(to_uint8(model.decode(grids))[:, :, shown, shown].cpu())
    return torch.cat(pictures)
