"""Reconstructions as a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.training.build import build_model
from rotvq.training.pictures import fixed_images, save_reconstructions


def images(n, channels=3, height=8, width=8):
    generator = torch.Generator().manual_seed(n)
    shape = (n, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("n", "width", "expected"),
    [(100, 32, 32), (100, 64, 16), (20, 32, 20), (1, 32, 1), (100, 256, 4), (5, 1024, 2)],
)
def test_fixed_images_fill_two_rows_of_512_pixels(n, width, expected):
    some = images(n, height=4, width=width)
    fixed = fixed_images(some)
    assert len(fixed) == expected
    assert torch.equal(fixed, fixed_images(some))
    places = [next(i for i in range(n) if torch.equal(some[i], one)) for one in fixed]
    assert places == sorted(set(places))
    if expected > 1:
        assert (places[0], places[-1]) == (0, n - 1)


def test_pixels_round_and_clamp():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(normalized(levels)), levels)
    x = torch.tensor([-2.0, -1.0, -0.998, -0.995, 0.998, 1.0, 7.0]).reshape(1, 1, 1, 7)
    assert to_uint8(x).flatten().tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert to_uint8(x.bfloat16()).dtype == torch.uint8


@pytest.mark.parametrize(
    ("n", "channels", "height", "width"),
    [(32, 3, 32, 32), (7, 3, 8, 12), (1, 3, 8, 8), (6, 1, 8, 8)],
)
def test_rows_of_originals_alternate_with_their_reconstructions(
    tmp_path, tiny, n, channels, height, width
):
    model = build_model(tiny(model={"channels": channels}))
    some = images(n, channels, height, width)
    save_reconstructions(tmp_path / "a.png", model, some)
    with Image.open(tmp_path / "a.png") as file:
        picture = np.asarray(file)
    model.eval()
    with torch.no_grad():
        made = to_uint8(model(normalized(some)).reconstruction)
    columns = (n + 1) // 2
    rows = 2 * min(n, 2)
    assert picture.shape[:2] == (rows * height, columns * width)
    assert picture.ndim == (2 if channels == 1 else 3)
    for i in range(n):
        row, column = divmod(i, columns)
        for offset, source in ((0, some), (1, made)):
            top, left = (2 * row + offset) * height, column * width
            tile = picture[top : top + height, left : left + width].reshape(height, width, channels)
            assert np.array_equal(tile, source[i].permute(1, 2, 0).numpy()), (i, offset)
    if n % 2 and n > 1:
        assert (picture[2 * height :, (n // 2) * width :] == 255).all()


def test_32_pixel_images_make_512_by_128(tmp_path, tiny):
    save_reconstructions(
        tmp_path / "a.png", build_model(tiny()), fixed_images(images(50, 3, 32, 32))
    )
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (512, 128)


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(tmp_path, tiny, training):
    model = build_model(tiny()).train(training)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    save_reconstructions(tmp_path / "a.png", model, images(4))
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
