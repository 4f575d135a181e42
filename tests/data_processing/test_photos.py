import numpy as np
import pytest

from rotvq.data_processing.photos import load_photos, patches
from rotvq.data_processing.resizing import Target
from rotvq.errors import UserError


def test_the_embedded_photographs_give_enough_patches_and_always_the_same() -> None:
    data = load_photos(Target())
    assert data.name == "photo patches"
    assert 4000 <= len(data.train.images) <= 6000 and 500 <= len(data.test.images) <= 1000
    assert data.train.images.shape[1:] == data.test.images.shape[1:] == (3, 32, 32)
    assert data.train.images.std() > 40
    again = load_photos(Target())
    assert data.train.fingerprint() == again.train.fingerprint()
    assert data.test.fingerprint() == again.test.fingerprint()


@pytest.mark.parametrize("size", [32, 64])
def test_no_training_patch_shows_a_test_pixel(size: int) -> None:
    """Black where training may look, white where testing may: nothing in between appears."""
    photo = np.zeros((427, 640, 3), np.uint8)
    photo[:, 208:368] = 255
    data = patches([photo], Target(size))
    assert (data.train.images == 0).all()
    assert (data.test.images == 255).all()


def test_patches_reach_the_edges_of_their_regions_at_full_resolution() -> None:
    columns = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (64, 200, 3))
    data = patches([columns], Target(32))
    assert data.train.images.min() == 0 and data.train.images.max() > 190
    assert data.test.images.min() == 65 and 105 < data.test.images.max() < 115
    assert np.array_equal(data.train.images[1, 2, 5], np.arange(9, 41))  # the next on the grid


def test_half_resolution_is_among_the_patches() -> None:
    """A ramp of slope 1 appears with slope 1 and with slope 2."""
    columns = np.broadcast_to(np.arange(250, dtype=np.uint8)[None, :, None], (100, 250, 3))
    images = patches([columns], Target(16)).train.images.astype(int)
    slopes = np.median(np.diff(images, axis=-1), axis=(1, 2, 3))
    assert set(np.unique(slopes)) == {1.0, 2.0}


def test_gray_has_one_channel() -> None:
    assert load_photos(Target(16, 1)).test.images.shape[1:] == (1, 16, 16)


def test_a_size_beyond_the_test_region_is_refused() -> None:
    for size in (161, 500):
        with pytest.raises(UserError, match="expected at most 427x160 for photo patches; got"):
            load_photos(Target(size))
    assert load_photos(Target(160)).test.images.shape[1:] == (3, 160, 160)
