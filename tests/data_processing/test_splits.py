import numpy as np
import pytest

from rotvq.data_processing.splits import (
    ImageData,
    ImageSplit,
    epoch_order,
    for_choosing,
    held_out,
)
from rotvq.errors import UserError


def _images(shape: tuple[int, ...] = (2, 3, 4, 5)) -> np.ndarray:
    return np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)


def test_epoch_order_is_a_permutation_that_depends_on_all_three_arguments() -> None:
    order = epoch_order(50, seed=3, epoch=7)
    assert sorted(order) == list(range(50))
    assert np.array_equal(order, epoch_order(50, seed=3, epoch=7))
    assert not np.array_equal(order, epoch_order(50, seed=7, epoch=3))
    assert not np.array_equal(order, epoch_order(50, seed=3, epoch=8))
    assert not np.array_equal(order, epoch_order(51, seed=3, epoch=7)[:50])


def test_epoch_order_ignores_the_global_generator() -> None:
    np.random.seed(0)
    first = epoch_order(9, 0, 0)
    np.random.seed(1)
    assert np.array_equal(first, epoch_order(9, 0, 0))


def test_fingerprint_sees_pixels_and_shape_but_not_labels() -> None:
    images = _images()
    changed = images.copy()
    changed[1, 2, 3, 4] += 1
    prints = [
        ImageSplit(a).fingerprint()
        for a in (images, changed, images.reshape(2, 3, 5, 4), images.reshape(1, 6, 4, 5))
    ]
    assert len(set(prints)) == 4
    assert ImageSplit(images, np.zeros(2, np.int64)).fingerprint() == prints[0]
    # Records of earlier runs are compared with it: it must not drift.
    assert prints[0] == "d2cde08110b2eab1"


@pytest.mark.parametrize(
    "images",
    [_images().astype(np.float32), _images()[0], _images().transpose(0, 2, 3, 1)],
)
def test_other_arrays_are_rejected(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images must be C-contiguous uint8"):
        ImageSplit(images)


@pytest.mark.parametrize("labels", [np.zeros(2, np.int32), np.zeros(3, np.int64)])
def test_other_labels_are_rejected(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"labels must be int64 \(2,\)"):
        ImageSplit(_images(), labels)


def test_a_tenth_is_held_out_regardless_of_order() -> None:
    keys = [f"image {i}" for i in range(200)]
    mask = held_out(keys)
    assert mask.sum() == 20
    assert np.array_equal(held_out(keys[::-1])[::-1], mask)
    assert held_out(["a", "b"]).sum() == 1


def _data(n: int) -> ImageData:
    train = ImageSplit(_images((n, 1, 2, 2)), np.arange(n))
    return ImageData("made up", train, ImageSplit(_images((3, 1, 2, 2)) + 1), ("a note",))


def test_validation_images_are_removed_from_training() -> None:
    chosen = for_choosing(_data(40), 8)
    assert chosen.validation is not None
    train, held = chosen.train.labels, chosen.validation.labels
    assert train is not None and held is not None
    assert held.tolist() == list(range(0, 40, 5))
    assert sorted([*train, *held]) == list(range(40))
    whole = _data(40).train.images
    assert np.array_equal(chosen.train.images, whole[train])
    assert np.array_equal(chosen.validation.images, whole[held])
    assert np.array_equal(chosen.test.images, _data(40).test.images)
    assert (chosen.name, chosen.notes) == ("made up", ("a note",))


@pytest.mark.parametrize("images", [40, 41])
def test_some_training_images_must_remain(images: int) -> None:
    with pytest.raises(UserError, match=r"fewer than the 40 training images; got 4[01]"):
        for_choosing(_data(40), images)
