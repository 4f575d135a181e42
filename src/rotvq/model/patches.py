"""Encoder and decoder that work at the tokens' own resolution throughout.

An image is cut into patches, one a token, and every convolution runs over the grid of tokens. At
the same cost as the paper's strided network that leaves more channels where the work is done, and
no transposed convolution. Not of the paper.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PreactivationBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, add (He et al., arXiv 1603.05027); the shape stays.

    Nothing stands after the sum, and the second convolution starts at zero: the block begins as
    the identity.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.second(F.relu(self.first(F.relu(x))))


class PatchEncoder(nn.Sequential):
    """Images to latent vectors z_e: patches, a convolution, residual blocks, a linear map.

    Args:
        channels: of the images.
        width: channels of the residual blocks.
        dim: channels of z_e, the length of a code.
        depth: residual blocks.
        stages: halvings of height and width; a patch is 2**stages pixels wide.
    """

    def __init__(self, channels: int, width: int, dim: int, depth: int, stages: int) -> None:
        side = 2**stages
        super().__init__(
            nn.PixelUnshuffle(side),
            nn.Conv2d(channels * side**2, width, 3, padding=1),
            *(PreactivationBlock(width) for _ in range(depth)),
            nn.ReLU(),
            nn.Conv2d(width, dim, 1),
        )


class PatchDecoder(nn.Sequential):
    """Codes to images in [-1, 1]: the encoder's mirror, with a tanh.

    Args:
        channels: of the images.
        width: channels of the residual blocks.
        dim: channels of the codes.
        depth: residual blocks.
        stages: doublings of height and width.
    """

    def __init__(self, channels: int, width: int, dim: int, depth: int, stages: int) -> None:
        side = 2**stages
        super().__init__(
            nn.Conv2d(dim, width, 3, padding=1),
            *(PreactivationBlock(width) for _ in range(depth)),
            nn.ReLU(),
            nn.Conv2d(width, channels * side**2, 3, padding=1),
            nn.PixelShuffle(side),
            nn.Tanh(),
        )
