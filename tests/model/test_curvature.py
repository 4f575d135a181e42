"""The curvature of a decoder: means of products of its explicit Jacobian."""

import math

import pytest
import torch
from torch import nn

from rotvq.model import curvature as module
from rotvq.model.curvature import curvature

D = 3


def decoder(*last):
    """Each code reaches one token further in every direction, as in a `PatchDecoder`."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(D, 8, 3, padding=1), nn.PixelShuffle(2), *last)
    return nn.Sequential(*layers).double()


def codes(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def means_of_products(jacobians):
    """From Jacobians (grids, outputs, d, h, w), one pair of tokens after the other."""
    _, _, d, h, w = jacobians.shape
    found = torch.zeros(d, d, 3, 3, dtype=torch.float64)
    for i, j in ((i, j) for i in range(3) for j in range(3)):
        products = [
            jacobian[:, :, row, column].T @ jacobian[:, :, row + i - 1, column + j - 1]
            for jacobian in jacobians
            for row in range(h)
            for column in range(w)
            if 0 <= row + i - 1 < h and 0 <= column + j - 1 < w
        ]
        found[:, :, i, j] = torch.stack(products).mean(0)
    return found


def exactly(decode, q, monkeypatch):
    """The estimate with each output once, times √n, in place of random outputs."""
    outputs = decode(q[:1]).numel()
    units = iter(math.sqrt(outputs) * torch.eye(outputs, dtype=torch.float64))
    monkeypatch.setattr(module, "_PROBES", outputs)
    monkeypatch.setattr(
        torch, "randn", lambda shape, generator: next(units).view(1, *shape[1:]).expand(shape)
    )
    return curvature(decode, q, torch.Generator())


@pytest.mark.parametrize("grids", [1, 2])
@pytest.mark.parametrize("shape", [(4, 5), (2, 2), (2, 6)])
@pytest.mark.parametrize("last", [[], [nn.Tanh(), nn.Conv2d(2, 2, 1)]], ids=["linear", "tanh"])
def test_the_curvature_equals_that_of_the_jacobian(grids, shape, last, monkeypatch):
    decode, q = decoder(*last), codes(grids, D, *shape)
    jacobians = torch.stack([torch.func.jacrev(decode)(one[None])[0].flatten(0, 2) for one in q])
    expected = means_of_products(jacobians.squeeze(2).detach())
    torch.testing.assert_close(exactly(decode, q, monkeypatch), expected)


def test_the_curvature_equals_that_of_finite_differences(monkeypatch):
    decode, q, step = decoder(nn.Tanh()), codes(1, D, 3, 4), 1e-5
    with torch.no_grad():
        columns = [
            (decode(q + step * unit) - decode(q - step * unit)).flatten() / (2 * step)
            for unit in torch.eye(q.numel(), dtype=torch.float64).view(-1, *q.shape)
        ]
    jacobian = torch.stack(columns, 1).view(1, -1, *q.shape[1:])
    expected = means_of_products(jacobian)
    torch.testing.assert_close(exactly(decode, q, monkeypatch), expected, rtol=1e-6, atol=1e-8)


def test_random_outputs_estimate_the_curvature(monkeypatch):
    decode, q = decoder(), codes(2, D, 4, 4)
    jacobian = torch.func.jacrev(decode)(q[:1])[0].flatten(0, 2).squeeze(1).detach()
    expected = means_of_products(jacobian[None])
    monkeypatch.setattr(module, "_PROBES", 400)
    found = curvature(decode, q, torch.Generator().manual_seed(0))
    assert (found - expected).norm() < 0.1 * expected.norm()
    monkeypatch.undo()
    rough = curvature(decode, q, torch.Generator().manual_seed(0))
    assert (rough - expected).norm() > 2 * (found - expected).norm()


def test_blocks_of_opposite_neighbors_are_transposes():
    found = curvature(decoder(nn.Tanh()), codes(3, D, 4, 5), torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.flip(2, 3), found.transpose(0, 1))
