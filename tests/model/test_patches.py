"""The network on patches against itself written out in functional form."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rotvq.errors import UserError
from rotvq.model import VQVAE, patches
from rotvq.model.patches import Attention, PatchDecoder, PatchEncoder, PreactivationBlock


def drawn(module):
    """The module's (weight, bias) pairs in order, after drawing them anew."""
    torch.manual_seed(0)
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.1)
        nn.init.normal_(layer.bias, std=0.1)
    return [(layer.weight, layer.bias) for layer in layers]


def residual(x, first, second):
    return x + F.conv2d(F.gelu(F.conv2d(F.gelu(x), *first, padding=1)), *second, padding=1)


def cut(x, side):
    """(b, c, h, w) → (b, c·side², h/side, w/side): each patch as the channels of one place."""
    return F.unfold(x, side, stride=side).unflatten(2, (x.shape[2] // side, -1))


def test_encoder_and_decoder():
    encoder, decoder = PatchEncoder(3, 8, 5, 2, 2), PatchDecoder(3, 8, 5, 2, 2)
    p = drawn(encoder)
    x = torch.randn(2, 3, 16, 12)
    h = F.conv2d(cut(x, 4), *p[0], padding=1)
    h = residual(residual(h, p[1], p[2]), p[3], p[4])
    z = F.conv2d(F.gelu(h), *p[5])
    torch.testing.assert_close(encoder(x), z)
    p = drawn(decoder)
    h = F.conv2d(z, *p[0], padding=1)
    h = residual(residual(h, p[1], p[2]), p[3], p[4])
    h = F.conv2d(F.gelu(h), *p[5], padding=1)
    torch.testing.assert_close(cut(decoder(z), 4), torch.tanh(h))


def test_a_block_starts_as_the_identity_and_learns():
    block, x = PreactivationBlock(4), torch.randn(1, 4, 3, 3)
    nn.init.zeros_(block.second.bias)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.second.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("width", "heads"), [(64, 2), (32, 1), (40, 1), (8, 1)])
def test_attention_is_softmax_of_products(width, heads, training):
    torch.manual_seed(0)
    layer = Attention(width).train(training)
    x = torch.randn(2, width, 3, 4)
    assert torch.equal(layer(x), x)
    nn.init.normal_(layer.out.weight)
    nn.init.normal_(layer.out.bias)
    tokens = F.layer_norm(x.flatten(2).mT, (width,), layer.norm.weight, layer.norm.bias)
    q, k, v = (tokens @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, 2)
    size = width // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = (q[..., part] @ k[..., part].mT / size**0.5).softmax(2)
        mixed.append(weights @ v[..., part])
    out = torch.cat(mixed, 2) @ layer.out.weight.T + layer.out.bias
    torch.testing.assert_close(layer(x), x + out.mT.reshape(x.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [3, 17])
def test_only_small_grids_keep_the_whole_matrix_of_weights(side, monkeypatch):
    calls = []
    monkeypatch.setattr(patches, "_attention", lambda q, k, v: calls.append(q.shape[2]) or v)
    layer = Attention(8)
    for training in (True, False):
        layer.train(training)(torch.randn(1, 8, side, side))
    assert calls == [9, 9] * (side == 3)


def test_attention_reaches_across_the_whole_grid():
    model = VQVAE(3, 8, 8, 2, network="attention").eval()
    for module in model.modules():
        if isinstance(module, Attention | PreactivationBlock):
            nn.init.normal_(
                module.out.weight if isinstance(module, Attention) else module.second.weight
            )
    x = torch.zeros(1, 3, 64, 64)
    changed = x.clone()
    changed[..., :4, :4] = 1
    far = (model.encoder(changed) - model.encoder(x))[0, :, -1, -1]
    assert far.abs().max() > 0


@pytest.mark.parametrize("network", ["patches", "attention"])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_patch_network_decodes_its_own_tokens(stages, network):
    model = VQVAE(1, 8, 6, 1, stages, network=network).eval()
    x = torch.rand(2, 1, 16, 24) * 2 - 1
    output = model(x)
    assert output.indices.shape == (2, 16 // 2**stages, 24 // 2**stages)
    assert torch.equal(model.decode(model.encode(x)), output.reconstruction)


def test_an_unknown_network_is_refused():
    with pytest.raises(UserError, match="expected one of paper, patches, attention; got 'unet'"):
        VQVAE(network="unet")
