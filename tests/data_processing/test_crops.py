"""Pictures that are kept larger, and crops of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing import crops, load
from rotvq.data_processing.crops import Store, crop, crops_each
from rotvq.data_processing.splits import fingerprint


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def gradient(height, width):
    """A picture whose first channel is the row, and whose second is the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_a_pure_function_of_its_key(channels):
    picture = noise(40, 60, channels)
    first, again, other = (
        crop(picture, (16, 16), key) for key in ((1, 2, 3), (1, 2, 3), (1, 2, 4))
    )
    assert first.shape == (channels, 16, 16) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_crops_come_from_everywhere_at_every_scale():
    picture = gradient(64, 96)
    found = [crop(picture, (16, 16), (0, n)).astype(int) for n in range(400)]
    tops = [each[0].min() for each in found]
    lefts = [each[1].min() for each in found]
    rights = [each[1].max() for each in found]
    heights = [each[0].max() - each[0].min() + 1 for each in found]
    assert min(tops) <= 1 and max(tops) >= 46
    assert min(lefts) <= 1 and max(rights) >= 94
    assert min(heights) <= 17 and max(heights) >= 60
    assert 28 < np.median(heights) < 36, "half of the scales lie below the middle one, 2"


def test_a_crop_at_the_scale_of_the_picture_is_cut_and_not_resampled(monkeypatch):
    picture = noise(16, 40, 3)
    windows = {picture[:, x : x + 16].tobytes() for x in range(25)}
    for n in range(20):
        assert crop(picture, (16, 16), (n,)).transpose(1, 2, 0).tobytes() in windows


def test_crops_need_not_be_square():
    assert crop(noise(50, 30, 3), (20, 12), (0,)).shape == (3, 20, 12)


@pytest.mark.parametrize(
    ("shapes", "each"),
    [
        ([(32, 32)] * 9, 1),
        ([(64, 96)] * 9, 6),
        ([(32, 32), (64, 64)], 2),
        ([(64, 64)] * 20_000, 2),
        ([(64, 64)] * 60_000, 1),
    ],
)
def test_an_epoch_takes_as_many_crops_as_fit_up_to_50_000(shapes, each):
    pictures = [np.broadcast_to(np.uint8(0), (*shape, 3)) for shape in shapes]
    assert crops_each(pictures, (32, 32)) == each


def test_a_store_keeps_images_of_any_size_in_few_blocks(monkeypatch):
    monkeypatch.setattr(crops, "BLOCK", 1000)
    blocks = []
    monkeypatch.setattr(crops, "room", lambda shape: blocks.append(shape) or np.empty(shape, "u1"))
    store = Store()
    pictures = [noise(3, h, w, seed=h * w) for h, w in ((9, 9), (9, 9), (40, 30), (5, 4))]
    for picture in pictures:
        store.add(picture)
    for kept, picture in zip(store.pictures, pictures, strict=True):
        assert np.array_equal(kept, picture.transpose(1, 2, 0))
    assert blocks == [(1000,), (3600,), (1000,)]


def test_every_pixel_and_shape_counts_in_the_fingerprint():
    pictures = [noise(6, 4, 3), noise(5, 5, 3)]
    found = {fingerprint(pictures), fingerprint(pictures[::-1])}
    found.add(fingerprint([pictures[0].reshape(4, 6, 3), pictures[1]]))
    changed = pictures[1].copy()
    changed[-1, -1, -1] ^= 1
    found.add(fingerprint([pictures[0], changed]))
    assert len(found) == 4


@pytest.fixture
def photographs(tmp_path):
    """A folder with train/ and test/ of several sizes."""
    sizes = {"train": [(300, 200), (60, 90), (20, 33), (32, 16)], "test": [(200, 300), (16, 16)]}
    for split, shapes in sizes.items():
        (tmp_path / split).mkdir()
        for i, (width, height) in enumerate(shapes):
            pixels = Image.fromarray(noise(4, 4, 3, seed=i)).resize((width, height))
            pixels.save(tmp_path / split / f"{i}.png")
    return tmp_path


def test_training_pictures_are_kept_whole_at_up_to_four_times_the_size(photographs):
    data = load(str(photographs), size=16, crops=True)
    shapes = [picture.shape for picture in data.train.pictures]
    assert shapes == [(64, 96, 3), (90, 60, 3), (33, 20, 3), (16, 32, 3)]
    assert data.train.images.shape == (4, 3, 16, 16)
    assert data.test.pictures is None
    plain = load(str(photographs), size=16)
    assert plain.train.pictures is None
    assert plain.test.fingerprint() == data.test.fingerprint(), "tests stay on the center"


def test_pictures_go_with_their_images_to_validation_and_limits(photographs):
    data = load(str(photographs), size=16, crops=True, validation=2)
    assert [p.shape[:2] for p in data.train.pictures] == [(90, 60), (16, 32)]
    assert [p.shape[:2] for p in data.validation.pictures] == [(64, 96), (33, 20)]


@pytest.mark.parametrize("size", [None, 16])
def test_images_of_the_exact_size_are_the_same_without_crops(tmp_path, size):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Image.fromarray(noise(16, 16, 3)).save(tmp_path / split / "a.png")
    data = load(str(tmp_path), size=size, crops=True)
    assert data.train.pictures is None
    assert np.array_equal(data.train.images[0].transpose(1, 2, 0), noise(16, 16, 3))


def test_a_picture_that_is_too_small_is_enlarged_to_cover_the_size(photographs):
    data = load(str(photographs), size="24x16", crops=True)
    assert all(p.shape[0] >= 24 and p.shape[1] >= 16 for p in data.train.pictures)


def test_a_long_thin_picture_is_not_enlarged_as_a_whole():
    strip = crops.whole(Image.new("RGB", (4, 60000)), 32, 32, 4)
    assert strip.width == 32 and 32 <= strip.height <= 4 * 32
    small = Image.fromarray(noise(30, 20, 3))
    assert crops.whole(small, 32, 32, 4).size == (32, 48)
