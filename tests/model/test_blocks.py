"""Encoder and decoder against the paper's network written out in functional form."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rotvq.model.blocks import Decoder, Encoder


def randomized(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The module's (weight, bias) pairs in order, after drawing them anew."""
    torch.manual_seed(0)
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.1)
        nn.init.normal_(layer.bias, std=0.1)
    return [(layer.weight, layer.bias) for layer in layers]


def residual(x: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    return F.relu(x + F.conv2d(F.relu(F.conv2d(x, *first, padding=1)), *second, padding=1))


def test_the_encoder_matches_the_paper():
    encoder = Encoder(3, 8, 8, 2, 2)
    p = randomized(encoder)
    assert len(p) == 6
    x = torch.randn(2, 3, 16, 16)
    h = F.relu(F.conv2d(x, *p[0], stride=2, padding=1))
    assert h.shape == (2, 4, 8, 8)
    h = F.relu(F.conv2d(h, *p[1], stride=2, padding=1))
    h = residual(residual(h, p[2], p[3]), p[4], p[5])
    torch.testing.assert_close(encoder(x), h)


def test_the_decoder_matches_the_paper():
    decoder = Decoder(3, 8, 8, 2, 2)
    p = randomized(decoder)
    assert len(p) == 6
    z = torch.randn(2, 8, 4, 4)
    h = residual(residual(z, p[0], p[1]), p[2], p[3])
    h = F.relu(F.conv_transpose2d(h, *p[4], stride=2, padding=1))
    assert h.shape == (2, 4, 8, 8)
    h = torch.tanh(F.conv_transpose2d(h, *p[5], stride=2, padding=1))
    torch.testing.assert_close(decoder(z), h)


@pytest.mark.parametrize("width, dim", [(8, 8), (8, 5), (6, 16)])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_shapes_and_depths(width, dim, depth, stages):
    encoder, decoder = (make(1, width, dim, depth, stages) for make in (Encoder, Decoder))
    z = encoder(torch.randn(2, 1, 16, 8))
    assert z.shape == (2, dim, 16 // 2**stages, 8 // 2**stages)
    assert decoder(z).shape == (2, 1, 16, 8)
    for module in (encoder, decoder):
        layers = len(randomized(module))
        assert layers == stages + 2 * depth + (dim != width)
