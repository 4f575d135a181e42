"""Converts pixels from 0 to 255 to the input of a model, and back (3.1.1)."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def normalized(images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Pixels to float32 in [-1, 1], in channels_last memory format."""
    return images.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def to_uint8(x: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """Images in [-1, 1] to pixels: rounded and clipped to [0, 255]."""
    return x.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
