"""Distances between vectors and codes, against float64 by hand."""

import pytest
import torch

from rotvq.errors import UserError
from rotvq.quantization import distances, nearest


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
