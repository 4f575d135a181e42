"""Images in a device's memory, and their record."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rotvq.data_processing import ImageSplit
from rotvq.training.images import on_device, sizes


@pytest.fixture
def split():
    generator = np.random.default_rng(0)
    return ImageSplit(generator.integers(0, 256, (7, 3, 8, 4), dtype=np.uint8))


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(None, range(7)), (7, range(7)), (100, range(7)), (1, [0]), (3, [0, 2, 4]), (2, [0, 3])],
)
def test_a_limit_takes_images_spread_over_the_split(split, limit, kept):
    images = on_device(split, limit, "cpu")
    assert images.dtype == torch.uint8
    assert np.array_equal(images.numpy(), split.images[list(kept)])


def test_sizes_describe_each_split(split):
    found = sizes({"train": on_device(split, None, "cpu"), "test": on_device(split, 2, "cpu")})
    assert found["train"] == {
        "images": 7,
        "channels": 3,
        "height": 8,
        "width": 4,
        "fingerprint": split.fingerprint(),
    }
    assert found["test"]["images"] == 2
    assert found["test"]["fingerprint"] == ImageSplit(split.images[[0, 3]]).fingerprint()


def test_one_pixel_changes_the_fingerprint(split):
    other = on_device(split, None, "cpu").clone()
    other[6, 2, 7, 3] += 1
    ours = sizes({"a": on_device(split, None, "cpu"), "b": other})
    assert ours["a"]["fingerprint"] != ours["b"]["fingerprint"]
