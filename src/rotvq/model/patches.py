"""Encoder and decoder that work at the resolution of the tokens throughout. Not from the paper.

The image is cut into patches, one per token, and every convolution runs over the grid of tokens.
For the cost of the paper's strided network this allows more channels and needs no transposed
convolutions. With attention, every token attends to all others once in the encoder and once in the
decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rotvq.quantization.tensors import readable

HEAD = 32
"""Channels of an attention head."""

WHOLE = 128
"""Tokens up to which a CPU is faster with the whole matrix of attention weights in memory."""


class PreactivationBlock(nn.Module):
    """GELU, convolution, GELU, convolution, add (He et al., arXiv 1603.05027); keeps the shape.

    The second convolution is initialized to zero, so the block starts as the identity.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.second(F.gelu(self.first(F.gelu(x))))


class Attention(nn.Module):
    """Self-attention over the grid (Vaswani et al., arXiv 1706.03762), added to its input.

    Positions come from the convolutions around it. Its last layer is initialized to zero, so it
    starts as the identity.

    Args:
        width: channels, in heads of 32; in a single head if 32 does not divide them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = 1 if width % HEAD else width // HEAD
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(tokens)).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # A graph must work for grids of any size.
        whole = x.device.type == "cpu" and readable() and tokens.shape[1] <= WHOLE
        mixed = _attention(q, k, v) if whole else F.scaled_dot_product_attention(q, k, v)
        out = self.out(mixed.transpose(1, 2).flatten(2))
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


def _attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
) -> Float[Tensor, "b h n d"]:
    """Scaled dot-product attention by two matrix products.

    On a CPU, the backward pass of torch's own function is several times slower for small grids.
    """
    weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1, torch.float32)
    return weights.to(v.dtype) @ v


class PatchEncoder(nn.Sequential):
    """Images to latent vectors z_e: patches, a convolution, residual blocks, a linear layer.

    Args:
        channels: image channels.
        width: channels of the residual blocks.
        dim: channels of z_e, the length of a code.
        depth: number of residual blocks.
        stages: how many times height and width are halved; a patch is 2**stages pixels wide.
        attention: add self-attention over the grid after the first block.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        dim: int,
        depth: int,
        stages: int,
        attention: bool = False,
    ) -> None:
        side = 2**stages
        super().__init__(
            nn.PixelUnshuffle(side),
            nn.Conv2d(channels * side**2, width, 3, padding=1),
            *_blocks(width, depth, attention),
            nn.GELU(),
            nn.Conv2d(width, dim, 1),
        )


class PatchDecoder(nn.Sequential):
    """Codes to images in [-1, 1]: the encoder's mirror, with a tanh.

    Args:
        channels: image channels.
        width: channels of the residual blocks.
        dim: channels of the codes.
        depth: number of residual blocks.
        stages: how many times height and width are doubled.
        attention: add self-attention over the grid after the first block.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        dim: int,
        depth: int,
        stages: int,
        attention: bool = False,
    ) -> None:
        side = 2**stages
        super().__init__(
            nn.Conv2d(dim, width, 3, padding=1),
            *_blocks(width, depth, attention),
            nn.GELU(),
            nn.Conv2d(width, channels * side**2, 3, padding=1),
            nn.PixelShuffle(side),
            nn.Tanh(),
        )


def _blocks(width: int, depth: int, attention: bool) -> list[nn.Module]:
    blocks: list[nn.Module] = [PreactivationBlock(width) for _ in range(depth)]
    return [*blocks[:1], Attention(width), *blocks[1:]] if attention else blocks
