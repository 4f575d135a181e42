"""The samples of an epoch: whole images, or random crops of larger pictures, perhaps flipped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from rotvq.data_processing import ImageSplit, crops, epoch_coins, epoch_order
from rotvq.data_processing.splits import fingerprint

THREADS = 8


class Samples:
    """The training samples of an epoch, by number; they depend on seed and epoch alone.

    Args:
        images: on the device, (n, c, h, w).
        split: the same images, possibly with larger pictures to crop.
        batch_size: minimum number of samples in an epoch; fewer images are repeated.
        seed: seed of order, crops and flips.
        flip: flip each sample horizontally with probability 1/2.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n c h w"],
        split: ImageSplit,
        batch_size: int,
        seed: int,
        flip: bool = False,
    ) -> None:
        self.images, self.pictures, self.seed, self.flip = images, split.pictures, seed, flip
        self.sides = images.shape[2], images.shape[3]
        each = crops.crops_each(split.pictures, self.sides) if split.pictures else 1
        self.times = max(each, -(-batch_size // len(images)))
        """Samples of each image in an epoch."""
        self.pool = ThreadPoolExecutor(THREADS) if split.pictures else None

    def __len__(self) -> int:
        return self.times * len(self.images)

    def order(self, epoch: int) -> Int64[Tensor, " n"]:
        """The numbers of an epoch's samples, shuffled; on the device of the images."""
        order = epoch_order(len(self), self.seed, epoch)
        return torch.from_numpy(order).to(self.images.device)

    def take(self, numbers: Int64[Tensor, " b"], epoch: int) -> UInt8[Tensor, "b c h w"]:
        """Samples by their numbers, on the device of the images."""
        samples = self._upright(numbers, epoch)
        if not self.flip:
            return samples
        flipped = drawn(0.5, len(self), self.seed, epoch, samples.device)[numbers]
        return torch.where(flipped.view(-1, 1, 1, 1), samples.flip(3), samples)

    def _upright(self, numbers: Int64[Tensor, " b"], epoch: int) -> UInt8[Tensor, "b c h w"]:
        if self.pictures is None or self.pool is None:
            return self.images[numbers if self.times == 1 else numbers % len(self.images)]
        some = self.pool.map(lambda number: self._crop(number, epoch), numbers.tolist())
        return torch.from_numpy(np.stack([*some])).to(self.images.device)

    def _crop(self, number: int, epoch: int) -> crops.Pixels:
        assert self.pictures is not None
        picture = self.pictures[number % len(self.pictures)]
        return crops.crop(picture, self.sides, (self.seed, epoch, number))

    @property
    def note(self) -> str | None:
        """A sentence for the user, if there is something to note."""
        n, (height, width) = len(self.images), self.sides
        if self.pictures is not None:
            return f"Each epoch takes {self.times} random {height}x{width} crops of each picture."
        if self.times > 1:
            return f"{n} images do not fill a batch: each epoch repeats them {self.times} times."
        return None

    @property
    def record(self) -> dict[str, Any]:
        """For run.json: how many crops of which pictures; empty for whole images."""
        if self.pictures is None:
            return {}
        return {"crops": {"images": len(self), "fingerprint": fingerprint(self.pictures)}}


@lru_cache(maxsize=1)
def drawn(
    share: float, n: int, seed: int, epoch: int, device: torch.device | str = "cpu"
) -> Bool[Tensor, " n"]:
    """Which of n samples of an epoch are drawn, each with probability `share`."""
    return torch.from_numpy(epoch_coins(n, seed, epoch) < share).to(device)
