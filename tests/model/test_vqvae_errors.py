"""What the model refuses, and what it says."""

import re

import pytest
import torch

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer


def small() -> VQVAE:
    return VQVAE(width=8, dim=8, depth=1, quantizer=VectorQuantizer(32, 8, channel_dim=1))


@pytest.mark.parametrize("method", ["forward", "encode"])
@pytest.mark.parametrize("height, width", [(15, 16), (16, 18), (2, 16), (33, 33)])
def test_sides_that_are_not_multiples_of_the_stride_are_refused(height, width, method):
    message = (
        f"^images: expected height and width divisible by 4; got {height}x{width}\\. Crop, pad"
    )
    with pytest.raises(UserError, match=message):
        getattr(small(), method)(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("method", ["forward", "encode"])
@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(1, 1, 16, 16),
        torch.zeros(1, 4, 16, 16),
        torch.zeros(3, 16, 16),
        torch.zeros(1, 1, 3, 16, 16),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(1, 3, 16, 16, dtype=torch.int64),
        torch.zeros(1, 3, 16, 16, dtype=torch.bool),
    ],
    ids=lambda x: f"{x.dtype} {tuple(x.shape)}",
)
def test_inputs_of_another_shape_or_dtype_are_refused(x, method):
    got = (
        f"got {x.dtype} {tuple(x.shape)}." if x.is_floating_point() else f"got {x.dtype}. Use x.fl"
    )
    message = rf"^images: expected float images \(batch, 3, .* {re.escape(got)}"
    with pytest.raises(UserError, match=message):
        getattr(small(), method)(x)


@pytest.mark.parametrize("shape", [(4, 4), (1, 16), (1, 1, 4, 4)])
def test_indices_of_another_shape_are_refused(shape):
    message = re.escape(f"indices: expected shape (batch, rows, columns); got {shape}.")
    with pytest.raises(UserError, match=message):
        small().decode(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("value", [32, 10**9, -2])
def test_indices_beyond_the_codebook_are_refused(value):
    with pytest.raises(UserError, match=f"expected values from 0 to 31 .*; got {value} to {value}"):
        small().decode(torch.full((1, 4, 4), value))


def test_indices_of_another_dtype_are_refused():
    with pytest.raises(UserError, match=r"indices: expected int64; got torch\.float32"):
        small().decode(torch.zeros(1, 4, 4))


@pytest.mark.parametrize("name", ["channels", "width", "dim", "depth", "stages"])
def test_sizes_out_of_range_are_refused_by_name(name):
    least = 0 if name == "depth" else 1
    with pytest.raises(UserError, match=rf"^model\.{name}: expected {least} or more; got -3\.$"):
        VQVAE(**{"width": 8, "dim": 8, name: -3})


def test_an_unknown_network_is_refused():
    message = "network: expected one of paper, patches, attention; got 'other'"
    with pytest.raises(UserError, match=message):
        VQVAE(network="other")


@pytest.mark.parametrize("dim, channel_dim", [(6, 1), (8, -1)])
def test_a_quantizer_that_does_not_match_is_refused(dim, channel_dim):
    quantizer = VectorQuantizer(16, dim, channel_dim=channel_dim)
    message = f"expected dim=8 and channel_dim=1; got dim={dim} and channel_dim={channel_dim}"
    with pytest.raises(UserError, match=message):
        VQVAE(width=8, dim=8, quantizer=quantizer)
