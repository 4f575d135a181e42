"""Distances between vectors and codes, against float64 by hand."""

import pytest
import torch

from rotvq.errors import UserError
from rotvq.quantization import distance, distances, nearest, nearest_codes


@pytest.mark.parametrize("shape, channel_dim", [((5,), -1), ((7, 5), -1), ((2, 5, 3, 4), 1)])
def test_each_distance_is_the_length_of_the_difference(shape, channel_dim):
    torch.manual_seed(0)
    z, codes = torch.randn(shape), torch.randn(9, 5)
    found = distances(z, codes, channel_dim)
    rows = z.movedim(channel_dim, -1)
    assert found.shape == (*rows.shape[:-1], 9) and found.dtype == torch.float32
    wanted = (rows.double().unsqueeze(-2) - codes.double()).norm(dim=-1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


def test_the_smallest_distance_belongs_to_the_nearest_code():
    torch.manual_seed(0)
    z, codes = torch.randn(200, 8), torch.randn(64, 8)
    assert torch.equal(distances(z, codes).argmin(1), nearest(z, codes))


def test_small_distances_keep_their_digits_and_half_precision_its_range():
    z = torch.full((1, 4), 100.0)
    assert distances(z, z + 2**-10).item() == pytest.approx(2**-9, rel=1e-6)
    assert distances(z.half() * 300, -z.half() * 300).item() == pytest.approx(120_000)


def test_another_number_of_channels_is_refused():
    with pytest.raises(UserError, match=r"expected z with 5 channels at dimension -1 .* \(2, 4\)"):
        distances(torch.zeros(2, 4), torch.zeros(9, 5))


@pytest.mark.parametrize("count", [1, 4, 30])
def test_nearest_codes_are_those_of_all_distances_sorted(count, monkeypatch):
    monkeypatch.setattr(distance, "_DISTANCES", 100)
    torch.manual_seed(0)
    z, codes = torch.randn(2, 6, 5, 3), torch.randn(30, 6)
    found = nearest_codes(z, codes, count, channel_dim=1)
    exact = (z.double().movedim(1, -1)[..., None, :] - codes.double()).norm(dim=-1)
    wanted = exact.sort(-1)
    assert torch.equal(found.indices, wanted.indices[..., :count])
    assert torch.allclose(found.distances.double(), wanted.values[..., :count])
    assert found.distances.dtype == torch.float32


def test_the_neighbors_of_a_single_code():
    codes = torch.eye(4)
    found = nearest_codes(codes[2], codes, 1)
    assert (found.indices.tolist(), found.distances.tolist()) == ([2], [0.0])


@pytest.mark.parametrize("count", [0, 5])
def test_a_count_beyond_the_codes_is_refused(count):
    with pytest.raises(UserError, match=f"count: expected 1 to 4; got {count}"):
        nearest_codes(torch.zeros(3, 2), torch.zeros(4, 2), count)
