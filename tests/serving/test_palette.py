"""Similar codes lie side by side."""

import numpy as np
import torch

from rotvq.serving import palette


def roughness(features, order):
    """Mean squared distance of neighbors on the grid."""
    wide = palette.columns(len(order))
    placed = features[torch.from_numpy(np.ascontiguousarray(order))].view(-1, wide, 4)
    return sum((placed.diff(dim=axis)).square().sum(-1).mean().item() for axis in (0, 1))


def test_every_code_has_one_cell_and_neighbors_look_alike():
    features = torch.rand(216, 4, generator=torch.Generator().manual_seed(0))
    order = palette.arranged(features)
    assert sorted(order) == list(range(216))
    by_lightness = features[:, 0].argsort().numpy()
    shuffled = np.random.default_rng(0).permutation(216)
    assert roughness(features, order) < 0.75 * roughness(features, by_lightness)
    assert roughness(features, order) < 0.5 * roughness(features, shuffled)
    assert np.array_equal(order, palette.arranged(features)), "the same each time"


def test_few_codes():
    for k in (1, 2, 3, 5):
        assert sorted(palette.arranged(torch.rand(k, 4))) == list(range(k))


def test_what_looks_different_has_different_features():
    gray, red, half, stripes = torch.full((4, 3, 4, 4), 128, dtype=torch.uint8)
    red[0], red[1:] = 255, 64
    half[:, :2], half[:, 2:] = 64, 192
    stripes[:, :, ::2], stripes[:, :, 1::2] = 64, 192
    features = palette.look(torch.stack([gray, red, half, stripes]))
    distances = torch.cdist(features, features)
    assert distances[~torch.eye(4, dtype=torch.bool)].min() > 0.1
    assert torch.equal(features[0, 1:], torch.zeros(6))
