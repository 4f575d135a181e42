"""Images in memory, split into training and test."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotvq.data_processing.room import room
from rotvq.data_processing.skipped import Skipped
from rotvq.errors import UserError

HELD_OUT = 0.1
AT_A_TIME = 4096
"""Images copied at a time."""


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images (n, c, h, w), uint8, C-contiguous; labels (n,), int64, or None.

    `pictures` are the same images at larger sizes, to take crops from: (h, w, c) each.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    pictures: tuple[NDArray[np.uint8], ...] | None = None

    def __post_init__(self) -> None:
        """Reject arrays of other types and shapes."""
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or not images.flags.c_contiguous:
            raise ValueError(
                f"images must be C-contiguous uint8 (n, c, h, w), got {images.dtype} {images.shape}"
            )
        if labels is not None and (labels.dtype != np.int64 or labels.shape != images.shape[:1]):
            raise ValueError(
                f"labels must be int64 ({len(images)},), got {labels.dtype} {labels.shape}"
            )

    def subset(self, chosen: NDArray[np.int64]) -> "ImageSplit":
        """The images with these indices, in this order."""
        images = room((len(chosen), *self.images.shape[1:]))
        for start in range(0, len(chosen), AT_A_TIME):
            some = chosen[start : start + AT_A_TIME]
            images[start : start + AT_A_TIME] = self.images[some]
        labels = None if self.labels is None else self.labels[chosen]
        pictures = None if self.pictures is None else tuple(self.pictures[i] for i in chosen)
        return ImageSplit(images, labels, pictures)

    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of shape and pixels, without labels."""
        return fingerprint([self.images])


def fingerprint(arrays: Iterable[NDArray[Any]]) -> str:
    """16 hex digits of the SHA-256 of all shapes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(tuple(map(int, array.shape))).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class ImageData:
    """A dataset: its displayed name, splits of one image shape, and notes for the user.

    `skipped` lists the items of the source that are not in the splits; `classes` the names of the
    classes by label, if they have names.
    """

    name: str
    train: ImageSplit
    test: ImageSplit
    notes: tuple[str, ...] = ()
    validation: ImageSplit | None = None
    skipped: tuple[Skipped, ...] = ()
    classes: tuple[str, ...] = ()


def for_choosing(data: ImageData, images: int) -> ImageData:
    """Move some training images, evenly spaced, to a validation split.

    Raises:
        UserError: no training images would be left.
    """
    total = len(data.train.images)
    if images >= total:
        raise UserError(
            f"data.validation: expected fewer than the {total} training images; got {images}."
        )
    held = np.zeros(total, dtype=np.bool_)
    held[np.arange(images) * total // images] = True
    return replace(
        data,
        train=data.train.subset(np.flatnonzero(~held)),
        validation=data.train.subset(np.flatnonzero(held)),
    )


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of images in an epoch: a permutation of 0…n-1 that depends on (seed, epoch, n)."""
    return np.random.default_rng([seed, epoch, n]).permutation(n)


@lru_cache(2)
def epoch_coins(n: int, seed: int, epoch: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each of n samples of an epoch; depends on (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).random(n)


def held_out(keys: Sequence[str]) -> NDArray[np.bool_]:
    """Select a tenth of the keys, at least one: those with the smallest SHA-256."""
    ranked = sorted(range(len(keys)), key=lambda i: hashlib.sha256(os.fsencode(keys[i])).digest())
    mask = np.zeros(len(keys), dtype=np.bool_)
    mask[ranked[: max(1, round(HELD_OUT * len(keys)))]] = True
    return mask
