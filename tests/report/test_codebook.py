"""The picture of a codebook: every tile once, similar ones close together."""

from __future__ import annotations

import numpy as np
import pytest

from rotvq.report.codebook import LABELED, WIDTH, arranged, sheet


def shades(k, side=4, seed=0):
    """Tiles of one color each, in random order; the color varies in two dimensions."""
    n = int(np.ceil(np.sqrt(k)))
    a, b = np.divmod(np.random.default_rng(seed).permutation(n * n)[:k], n)
    colors = np.stack([a, b, np.zeros_like(a)], 1) * 255 // n
    return np.broadcast_to(colors[:, None, None], (k, side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 100, 130])
def test_every_tile_has_one_cell(k):
    cells = arranged(shades(k))
    assert cells.size - k < cells.shape[1] and abs(np.subtract(*cells.shape)) <= 1
    assert sorted(cells.ravel()[:k]) == list(range(k))
    assert (cells.ravel()[k:] == -1).all()


def test_neighbors_are_far_more_similar_than_at_random():
    tiles = shades(400)

    def roughness(cells):
        grid = tiles[cells, 0, 0].astype(float)
        return sum(np.abs(np.diff(grid, axis=axis)).mean() for axis in (0, 1))

    random = np.random.default_rng(1).permutation(400).reshape(20, 20)
    assert roughness(arranged(tiles)) < 0.3 * roughness(random)


def colors_in(image):
    return {color for _, color in image.getcolors(2**24)}


@pytest.mark.parametrize("side", [1, 3, 8, 40])
def test_every_tile_is_drawn(side):
    tiles = shades(64, side)
    wanted = {tuple(int(v) for v in tile[0, 0]) for tile in tiles}
    image = sheet([("title", tiles)])
    assert wanted <= colors_in(image)
    assert image.width < 1.1 * WIDTH


def test_numbers_stand_where_there_is_room():
    few, many = (sheet([("", shades(k))]) for k in (LABELED, LABELED + 1))
    assert few.height > few.width > 0.9 * WIDTH
    assert many.height == pytest.approx(many.width, abs=60)


def test_codebooks_stand_below_each_other():
    one, two = sheet([("a", shades(16))]), sheet([("a", shades(16)), ("b", shades(9))])
    assert two.height > one.height
    assert np.array_equal(np.asarray(two)[: one.height, : one.width], np.asarray(one))
