"""How sharp images are: the energy of the differences between neighboring pixels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

SHARPNESS = (
    "sum of squared differences between neighboring pixels, reconstructions over originals of the "
    "whole split: 1 is as sharp as the originals, below 1 blurred; noise raises it too"
)


def edge_energy(x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Sum of the squared differences between neighboring pixels, across and down, of each image.

    Args:
        x: images in any range.

    Returns:
        0 or more; 0 for constant images and single pixels.
    """
    down, across = (x.diff(dim=dim).square().sum((1, 2, 3)) for dim in (2, 3))
    return down + across
