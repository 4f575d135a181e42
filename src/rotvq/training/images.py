"""Images in a device's memory, and what a record says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from rotvq.data_processing import ImageSplit


def on_device(
    split: ImageSplit, limit: int | None, device: torch.device | str
) -> UInt8[Tensor, "n c h w"]:
    """Images of a split as uint8 on a device: all, or `limit` of them spread evenly over it."""
    images = split.images
    if limit is not None and limit < len(images):
        images = images[np.arange(limit) * len(images) // limit]
    return torch.from_numpy(images).to(device)


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
