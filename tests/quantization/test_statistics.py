"""Counts and sums against exact arithmetic, and equal vectors against a dictionary."""

from fractions import Fraction

import pytest
import torch

from rotvq import EMA, VectorQuantizer
from rotvq.quantization.kmeans import kmeans
from rotvq.quantization.statistics import (
    add_up,
    first_of_equals,
    squared_error,
    sum_dtype,
)


@pytest.mark.parametrize("value, parts", [(0.1, 1), (-3e-7, 3), (1e28, 1)])
def test_millions_of_equal_vectors_have_their_own_value_as_mean(value, parts):
    count = 2**20 + 1
    quantizer = VectorQuantizer(2, 1, update=EMA(0.0), defer_update=True)
    quantizer.codebook.embeddings.copy_(torch.tensor([[value], [-9.0 * value]]))
    for rows in torch.full((count, 1), value).chunk(parts):
        quantizer(rows)
    quantizer.update_codebook()
    assert quantizer.codebook.cluster_size[0] == count
    assert quantizer.codebook.embeddings[0].item() == pytest.approx(
        torch.tensor(value).item(), rel=2e-7
    )


def test_counts_go_beyond_what_float32_can_count():
    codebook = VectorQuantizer(2, 1, update=EMA(0.0)).codebook
    one, zero = torch.ones(2, 1), torch.zeros(2, dtype=torch.int64)
    codebook._n[0], codebook._s[0] = 2**24, 2**24
    for _ in range(5):
        codebook.accumulate(one[:1], zero[:1], zero[:1] == 0)
    codebook.accumulate(one, zero, zero == 0)
    assert codebook._n[0] == codebook._s[0] == 2**24 + 7
    codebook.step()
    assert (
        codebook.cluster_size[0] == 2**24 + 8 and codebook.embeddings[0] == 1
    )  # the nearest float32


@pytest.mark.parametrize("n, k, d", [(1, 1, 1), (5000, 7, 300), (400, 90, 3), (0, 3, 2)])
def test_sums_are_those_of_fractions(n, k, d):
    g = torch.Generator().manual_seed(0)
    z, indices = torch.randn(n, d, generator=g), torch.randint(k, (n,), generator=g)
    valid = torch.rand(n, generator=g) < 0.8
    z[~valid] = 0
    number = torch.zeros(k, dtype=sum_dtype(z.device))
    total = torch.zeros(k, d, dtype=number.dtype)
    add_up(number, total, z, indices, valid)
    assert number.tolist() == [int((valid & (indices == code)).sum()) for code in range(k)]
    for code in (0, k - 1):
        exact = sum(map(Fraction, z[indices == code, -1].tolist()), Fraction(0))
        assert total[code, -1].item() == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


def test_squared_errors_are_those_of_float64():
    g = torch.Generator().manual_seed(0)
    z, e = torch.randn(3000, 200, generator=g), torch.randn(9, 200, generator=g)
    indices = torch.randint(9, (3000,), generator=g)
    expected = torch.cdist(z.double(), e.double()).square()[torch.arange(3000), indices]
    torch.testing.assert_close(squared_error(z, e, indices).double(), expected, rtol=1e-5, atol=0)


def test_the_first_of_equal_vectors_is_found():
    g = torch.Generator().manual_seed(0)
    z = torch.randint(-1, 2, (3000, 6), generator=g).float()
    z[::7] *= -1.0  # zeros of both signs
    valid = torch.rand(3000, generator=g) < 0.7
    seen, expected = set(), []
    for row, counts in zip(z.tolist(), valid.tolist(), strict=True):
        key = tuple(value + 0.0 for value in row)
        expected.append(counts and key not in seen)
        if counts:
            seen.add(key)
    assert first_of_equals(z, valid).tolist() == expected
    assert first_of_equals(z[:0], valid[:0]).tolist() == []


@pytest.mark.parametrize("different", [1, 20, 2000])
def test_clusters_start_apart_where_most_vectors_are_alike(different):
    torch.manual_seed(0)
    k = 100
    z = torch.full((20_000, 4), 2.0)
    rows = torch.randperm(len(z))[:different]
    z[rows] = 10 * torch.randn(different, 4)
    e, n = kmeans(z, torch.ones(len(z), dtype=torch.bool), k)
    assert n.sum() == 64 * k and e.isfinite().all()
    assert len(e.unique(dim=0)) >= min(k, different) * 0.9
    assert (n > 0).sum() >= min(k, different * 64 * k // len(z)) * 0.9


def test_clusters_of_vectors_that_all_differ_start_from_a_sample_of_them():
    torch.manual_seed(0)
    centers = 100 * torch.randn(8, 4)
    z = centers.repeat(50, 1)
    z[390:] = 0
    e, n = kmeans(z, torch.arange(400) < 390, 8)
    torch.testing.assert_close(e[e[:, 0].argsort()], centers[centers[:, 0].argsort()])
    assert sorted(n.tolist()) == [48.0, 48.0, *[49.0] * 6]
