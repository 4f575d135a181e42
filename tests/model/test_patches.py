"""The network on patches against itself written out in functional form."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.model.patches import PatchDecoder, PatchEncoder, PreactivationBlock


def drawn(module):
    """The module's (weight, bias) pairs in order, after drawing them anew."""
    torch.manual_seed(0)
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.1)
        nn.init.normal_(layer.bias, std=0.1)
    return [(layer.weight, layer.bias) for layer in layers]


def residual(x, first, second):
    return x + F.conv2d(F.relu(F.conv2d(F.relu(x), *first, padding=1)), *second, padding=1)


def cut(x, side):
    """(b, c, h, w) → (b, c·side², h/side, w/side): each patch as the channels of one place."""
    return F.unfold(x, side, stride=side).unflatten(2, (x.shape[2] // side, -1))


def test_encoder_and_decoder():
    encoder, decoder = PatchEncoder(3, 8, 5, 2, 2), PatchDecoder(3, 8, 5, 2, 2)
    p = drawn(encoder)
    x = torch.randn(2, 3, 16, 12)
    h = F.conv2d(cut(x, 4), *p[0], padding=1)
    h = residual(residual(h, p[1], p[2]), p[3], p[4])
    z = F.conv2d(F.relu(h), *p[5])
    torch.testing.assert_close(encoder(x), z)
    p = drawn(decoder)
    h = F.conv2d(z, *p[0], padding=1)
    h = residual(residual(h, p[1], p[2]), p[3], p[4])
    h = F.conv2d(F.relu(h), *p[5], padding=1)
    torch.testing.assert_close(cut(decoder(z), 4), torch.tanh(h))


def test_a_block_begins_as_the_identity_and_learns():
    block, x = PreactivationBlock(4), torch.randn(1, 4, 3, 3)
    nn.init.zeros_(block.second.bias)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.second.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_a_model_of_patches_decodes_what_it_encodes(stages):
    model = VQVAE(1, 8, 6, 1, stages, network="patches").eval()
    x = torch.rand(2, 1, 16, 24) * 2 - 1
    output = model(x)
    assert output.indices.shape == (2, 16 // 2**stages, 24 // 2**stages)
    assert torch.equal(model.decode(model.encode(x)), output.reconstruction)


def test_an_unknown_network_is_refused():
    with pytest.raises(UserError, match="expected one of paper, patches; got 'unet'"):
        VQVAE(network="unet")
