"""Maps of several scales, against torch's own resizing and a loop over positions."""

import pytest
import torch
import torch.nn.functional as F

from rotvq.quantization.scales import blocks, gathered, positions, spread, unfolded
from rotvq.scales import cells, number_of_tokens, raster

GRIDS = [(8, 8), (5, 7), (1, 1), (16, 24), (13, 3)]
SCALES = (1, 2, 3, 5, 8)


def test_the_last_scale_has_a_token_everywhere_and_the_others_in_proportion():
    assert [cells(8, scale, 8) for scale in SCALES] == [1, 2, 3, 5, 8]
    assert [cells(12, scale, 8) for scale in SCALES] == [2, 3, 5, 8, 12]
    assert [cells(1, scale, 8) for scale in SCALES] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("scale, finer", [(1, 2), (2, 4), (1, 8), (4, 8), (3, 6)])
def test_maps_are_resized_as_torch_does(grid, scale, finer):
    last, g = (8 if finer != 6 else 6), finer // scale
    z = torch.randn(2, 3, *grid, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = [cells(side, finer, last) for side in grid]
    small = F.adaptive_avg_pool2d(z, size)
    found = gathered(blocks(z, scale, finer, last), scale, last)
    assert found.shape == (2, 3 * g * g, *(cells(side, scale, last) for side in grid))
    for row in range(found.shape[2]):
        for column in range(found.shape[3]):
            for part in range(g * g):
                i = min(g * row + part // g, size[0] - 1)
                j = min(g * column + part % g, size[1] - 1)
                cell = found[:, 3 * part : 3 * part + 3, row, column]
                torch.testing.assert_close(cell, small[:, :, i, j])
    at_positions = spread(found, grid, scale, last, 0.0)
    torch.testing.assert_close(at_positions, blocks(z, scale, finer, last))
    large = F.interpolate(small, size=grid, mode="bicubic")
    torch.testing.assert_close(unfolded(at_positions, scale, finer, last), large)


@pytest.mark.parametrize("grid", GRIDS)
def test_tokens_stand_where_their_areas_begin_and_follow_each_other_map_by_map(grid):
    number, maps, expected = 0, [], []
    for scale in SCALES:
        rows, columns = (cells(side, scale, 8) for side in grid)
        tokens = torch.arange(number, number + rows * columns).view(1, rows, columns)
        maps.append(spread(tokens, grid, scale, 8, -1))
        for row in range(rows):
            for column in range(columns):
                assert maps[-1][0, row * 8 // scale, column * 8 // scale] == tokens[0, row, column]
        assert torch.equal(maps[-1][0] >= 0, positions(maps[-1], scale, 8))
        number += rows * columns
        expected.append(number)
    for levels, tokens in enumerate(expected, 1):
        order = raster(SCALES, levels, grid)
        assert number_of_tokens(SCALES, levels, grid) == len(order) == tokens
        flat = torch.stack(maps[:levels], -1).flatten()
        assert flat[order].tolist() == list(range(tokens))
