"""Encoder and decoder of the paper (2.1, 2.3): strided convolutions and residual blocks."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, add, ReLU (2.1); keeps the shape.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.second(F.relu(self.first(x))))


class NormalizedLatents(nn.Module):
    """Scale each vector of D channels to length √D, so that only its direction is quantized."""

    def forward(self, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        work = z.float()
        mean_square = work.square().mean(1, keepdim=True)
        return (work * torch.rsqrt(mean_square + torch.finfo(work.dtype).eps)).to(z.dtype)


class Encoder(nn.Sequential):
    """Images to latent vectors z_e (2.1).

    `stages` convolutions with kernel 4 and stride 2, each followed by a ReLU, then residual blocks.
    In the paper the channels go 3 → width/2 → width, and the size 32×32 → 8×8. If dim differs from
    width, a 1×1 convolution follows.

    Args:
        channels: image channels.
        width: channels of the residual blocks.
        dim: channels of z_e, the length of a code.
        depth: number of residual blocks.
        stages: how many times height and width are halved.
    """

    def __init__(self, channels: int, width: int, dim: int, depth: int, stages: int) -> None:
        layers: list[nn.Module] = []
        for before, after in _steps(channels, width, stages):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        layers += [ResidualBlock(width) for _ in range(depth)]
        layers += [nn.Conv2d(width, dim, 1)] * (dim != width)
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Codes to images in [-1, 1] (2.3): the encoder's mirror with transposed convolutions and tanh.

    Args:
        channels: image channels.
        width: channels of the residual blocks.
        dim: channels of the codes.
        depth: number of residual blocks.
        stages: how many times height and width are doubled.
    """

    def __init__(self, channels: int, width: int, dim: int, depth: int, stages: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(dim, width, 1)] * (dim != width)
        layers += [ResidualBlock(width) for _ in range(depth)]
        for after, before in reversed(_steps(channels, width, stages)):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        super().__init__(*layers[:-1], nn.Tanh())


def _steps(channels: int, width: int, stages: int) -> list[tuple[int, int]]:
    """Channels before and after each stage; all but the last have half the width."""
    widths = [channels, *[max(1, width // 2)] * (stages - 1), width]
    return list(pairwise(widths))
