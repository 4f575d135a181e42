"""Bits against Python's own integers."""

import numpy as np
import pytest

from rotvq.tokens.packing import bit_width, pack, packed_bytes, unpack


@pytest.mark.parametrize("size, bits", [(1, 0), (2, 1), (3, 2), (1000, 10), (1024, 10), (1025, 11)])
def test_bits_of_an_index(size, bits):
    assert bit_width(size) == bits


@pytest.mark.parametrize("bits", [0, 1, 3, 8, 10, 16, 18])
@pytest.mark.parametrize("n, tokens", [(0, 4), (1, 1), (5, 64), (3, 7)])
def test_unpacking_inverts_packing(n, tokens, bits):
    indices = np.random.default_rng(0).integers(0, 2**bits, (n, tokens, 1))
    rows = pack(indices, [bits])
    assert rows.dtype == np.uint8 and rows.shape == (n, packed_bytes(tokens, bits))
    assert np.array_equal(unpack(rows, tokens, [bits]), indices)


@pytest.mark.parametrize("bits", [[3, 5], [10, 0, 1], [0, 0], [62, 1, 33]])
def test_tokens_with_several_indices_round_trip(bits):
    indices = np.random.default_rng(0).integers(0, 2 ** np.array(bits), (4, 7, len(bits)))
    rows = pack(indices, bits)
    assert rows.shape == (4, packed_bytes(7, sum(bits)))
    assert np.array_equal(unpack(rows, 7, bits), indices)


def test_the_highest_bit_comes_first():
    (row,) = pack(np.array([[[0b1010101010], [0b0000000001], [0b1111100000]]]), [10])
    assert int.from_bytes(row.tobytes()) == 0b1010101010_0000000001_1111100000_00


def test_the_indices_of_a_token_follow_each_other():
    (row,) = pack(np.array([[[0b101, 0b10], [0b011, 0b01]]]), [3, 2])
    assert int.from_bytes(row.tobytes()) == 0b101_10_011_01_000000
