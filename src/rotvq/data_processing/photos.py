"""The bundled dataset: patches of the two sample photos of scikit-learn, no download needed."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.data_processing.reader import ImageSource, Reader, of_arrays
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.splits import ImageData, ImageSplit
from rotvq.errors import UserError

PHOTOS = ("china", "flower")
"""The photographs; each is a class of patches."""
SIZE = 32
# Shares of the width, with part of the pagoda and of the flower; training takes both sides.
TEST_BAND = (0.325, 0.575)
# Coprime to the 8-pixel blocks of JPEG, so that patches start at every offset in a block.
TRAIN_STRIDE, TEST_STRIDE = 9, 13

Pixels = NDArray[np.uint8]


def load_photos(target: Target) -> ImageData:
    """Cut patches, by default 32x32, from china.jpg and flower.jpg (427x640 each).

    Raises:
        UserError: the size does not fit in the test region, which is 160 pixels wide.
    """
    from sklearn.datasets import load_sample_image

    return patches([load_sample_image(f"{name}.jpg") for name in PHOTOS], target)


def open_photos(target: Target) -> ImageSource:
    """The same patches as a source, cut when they are read."""

    def reader(split: str) -> Reader:
        data = load_photos(target)
        part = data.test if split == "test" else data.train
        assert part.labels is not None
        return of_arrays(part.images, part.labels, split, PHOTOS)

    splits = {split: partial(reader, split) for split in ("train", "test")}
    return ImageSource("photo patches", splits)


def patches(photos: Sequence[Pixels], target: Target) -> ImageData:
    """Cut photos (h, w, 3) on a grid, at full and at half resolution.

    Photos are divided before they are reduced, so that no test pixel enters a training patch. A
    patch's label is the number of its photo.
    """
    train, test = [], []
    for label, photo in enumerate(photos):
        left, right = (round(photo.shape[1] * share) for share in TEST_BAND)
        test.append((_cut(photo[:, left:right], TEST_STRIDE, target), label))
        train.append((_cut(photo[:, :left], TRAIN_STRIDE, target), label))
        train.append((_cut(photo[:, right:], TRAIN_STRIDE, target), label))
    return ImageData("photo patches", _join(train), _join(test))


def _join(cuts: list[tuple[Pixels, int]]) -> ImageSplit:
    images = np.concatenate([pixels for pixels, _ in cuts])
    labels = np.concatenate([np.full(len(pixels), label) for pixels, label in cuts])
    return ImageSplit(np.ascontiguousarray(images), labels.astype(np.int64))


def _cut(region: Pixels, stride: int, target: Target) -> Pixels:
    height, width = size = target.sides or (SIZE, SIZE)
    if height > region.shape[0] or width > region.shape[1]:
        raise UserError(
            f"data.size: expected at most {region.shape[0]}x{region.shape[1]} for photo patches; "
            f"got {height}x{width}."
        )
    image = Image.fromarray(region).convert("L" if target.channels == 1 else "RGB")
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    cuts = []
    for scaled in (image, half):
        pixels = np.asarray(scaled).reshape(scaled.height, scaled.width, target.channels)
        if height <= pixels.shape[0] and width <= pixels.shape[1]:
            windows = np.lib.stride_tricks.sliding_window_view(pixels, size, axis=(0, 1))
            cuts.append(windows[::stride, ::stride].reshape(-1, target.channels, *size))
    return np.concatenate(cuts)
