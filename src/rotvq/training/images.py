"""Images in a device's memory, and what a record says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from rotvq.data_processing import ImageSplit


def on_device(
    split: ImageSplit, limit: int | None, device: torch.device | str
) -> UInt8[Tensor, "n c h w"]:
    """Images of a split as uint8: all, or `limit` of them spread evenly over it.

    On the device, or in the host's memory where they would take more than half of a GPU's.
    """
    images = torch.from_numpy(limited(split, limit).images)
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > free / 2:
            return images
    return images.to(device)


def limited(split: ImageSplit, limit: int | None) -> ImageSplit:
    """A split, or `limit` images of it spread evenly."""
    if limit is None or limit >= len(split.images):
        return split
    return split.subset(np.arange(limit) * len(split.images) // limit)


def mirrored(
    images: UInt8[Tensor, "n c h w"], turned: Bool[Tensor, " n"]
) -> UInt8[Tensor, "n c h w"]:
    """Images of which some are turned left to right."""
    return torch.where(turned.to(images.device)[:, None, None, None], images.flip(3), images)


def sizes(images: Mapping[str, UInt8[Tensor, "n c h w"]]) -> dict[str, dict[str, Any]]:
    """Number, shape and fingerprint of each split."""
    return {
        name: {
            "images": len(some),
            "channels": some.shape[1],
            "height": some.shape[2],
            "width": some.shape[3],
            "fingerprint": ImageSplit(some.cpu().numpy()).fingerprint(),
        }
        for name, some in images.items()
    }
