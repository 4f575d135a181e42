import numpy as np
import pytest
from PIL import Image

from rotvq.data_processing.image_formats import Unreadable
from rotvq.data_processing.resizing import Target, conform

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (12, 12), (20, 50), (8, 64)])
@pytest.mark.parametrize("size", [4, 10, 40])
def test_size_resizes_the_shorter_side_and_keeps_the_center(
    shape: tuple[int, int], size: int
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    scale = size / min(shape)
    height, width = (round(side * scale) for side in shape)
    # The oracle takes two steps; the shapes are such that the longer side is whole in between.
    whole = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    top, left = (height - size) // 2, (width - size) // 2
    expected = whole[top : top + size, left : left + size].astype(int)
    squared = conform(Image.fromarray(pixels), Target(size, 1))[0]
    assert squared.shape == (size, size)
    assert np.abs(squared - expected).max() <= 1


def test_no_resampling_where_the_shorter_side_fits() -> None:
    pixels = conform(Image.fromarray(RGB), Target(6))
    assert np.array_equal(pixels, RGB[:, 1:7].transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(4, 60_000), (60_000, 4), (7, 4_999)])
def test_a_long_thin_image_is_cheap(shape: tuple[int, int]) -> None:
    assert conform(Image.new("L", shape), Target(96)).shape == (3, 96, 96)


def test_reduction_is_antialiased() -> None:
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = conform(Image.fromarray(checkers), Target(16, 1))
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def test_an_image_below_four_pixels_is_skipped() -> None:
    with pytest.raises(Unreadable, match="below 4 pixels a side: 3x9"):
        conform(Image.fromarray(RGB[:3]), Target(8))
