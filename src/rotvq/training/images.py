"""The images of a run in a device's memory, and how its record describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from rotvq.data_processing import ImageData, ImageSplit
from rotvq.errors import UserError
from rotvq.training.config import Config


@dataclass(frozen=True)
class RunImages:
    """The splits of a run, uint8 (n, c, h, w).

    Args:
        train: images to train on.
        test: images of the final evaluation.
        validation: images held out of the training split; None if there are none.
    """

    train: Tensor
    test: Tensor
    validation: Tensor | None

    @property
    def val(self) -> Tensor:
        """The images tested on during training: validation, or test if there are none."""
        return self.test if self.validation is None else self.validation

    @property
    def splits(self) -> dict[str, Tensor]:
        """The splits by name, as in the record of a run."""
        named = {"train": self.train, "test": self.test}
        return named if self.validation is None else named | {"validation": self.validation}


def load_images(config: Config, data: ImageData, device: torch.device) -> RunImages:
    """Move the images of a run to a device.

    Raises:
        UserError: their sides are not divisible by the stride of the model.
    """
    height, width = data.train.images.shape[2:]
    stride = 2**config.model.stages
    if height % stride or width % stride:
        raise UserError(
            f"data: expected height and width divisible by {stride} (2**model.stages); got "
            f"{height}x{width}. Pass --data.size or another --model.stages."
        )
    return RunImages(
        on_device(data.train, config.data.train_images, device),
        on_device(data.test, config.data.test_images, device),
        on_device(data.validation, None, device) if data.validation else None,
    )


def on_device(
    split: ImageSplit, limit: int | None, device: torch.device | str
) -> UInt8[Tensor, "n c h w"]:
    """All images of a split, or `limit` of them spread evenly over it.

    Images that would take more than half of a GPU's free memory stay in the host's memory.
    """
    images = torch.from_numpy(limited(split, limit).images)
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > free / 2:
            return images
    return images.to(device)


def limited(split: ImageSplit, limit: int | None) -> ImageSplit:
    """The split, or `limit` images spread evenly over it."""
    if limit is None or limit >= len(split.images):
        return split
    return split.subset(np.arange(limit) * len(split.images) // limit)


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
