"""Token files of the first levels of a residual quantizer."""

import numpy as np
import pytest
import torch

from rotvq import decode_images, encode_images
from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import GroupedQuantizer, ResidualQuantizer, VectorQuantizer
from rotvq.tokens.coding import decode, encode
from rotvq.tokens.file import KINDS, load_tokens, save_tokens
from rotvq.tokens.model_codec import codec, is_of


def levels(sizes, d):
    return ResidualQuantizer([VectorQuantizer(k, d, channel_dim=1) for k in sizes])


def model(quantizer):
    torch.manual_seed(0)
    net = VQVAE(width=8, dim=8, depth=1, quantizer=quantizer).eval()
    for codebook in net.quantizer.codebooks:
        torch.nn.init.normal_(codebook.embeddings, std=0.3)
    return net


def residual():
    return model(levels([5, 16, 3], 8))


def nested():
    return model(GroupedQuantizer([levels([7, 2, 4], 4), levels([9, 4, 4], 4)]))


def pictures():
    generator = np.random.default_rng(0)
    return [(str(n), generator.integers(0, 256, (3, 9, 8 + n), np.uint8)) for n in range(3)]


def pixels(net, tokens, levels=None):
    return [found for _, found in decode(net, tokens, levels=levels)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "make, sizes, shape", [(residual, (5, 16), (2,)), (nested, (7, 2, 9, 4), (2, 2))]
)
@pytest.mark.parametrize("suffix", KINDS)
def test_fewer_levels_are_smaller_files_of_the_same_tokens(tmp_path, make, sizes, shape, suffix):
    net = make()
    whole = encode(net, pictures())
    save_tokens(encode(net, pictures(), levels=2), tmp_path / f"two{suffix}")
    two = load_tokens(tmp_path / f"two{suffix}")
    assert (two.codec.codebook_sizes, two.codec.index_shape) == (sizes, shape)
    assert len(two.packed) < len(whole.packed)
    assert same(two, [indices[..., :2] for indices in whole])
    assert same(pixels(net, two), pixels(net, whole, levels=2))
    assert same(pixels(net, two, levels=1), pixels(net, whole, levels=1))
    assert not same(pixels(net, two), pixels(net, whole))
    with pytest.raises(UserError, match="levels: expected 1 to 2; got 3"):
        pixels(net, two, levels=3)


def test_tokens_of_the_first_levels_are_the_models():
    net = residual()
    assert all(is_of(net, codec(net, number)) for number in (None, 1, 2, 3))
    assert not is_of(model(levels([5, 16, 3, 2], 8)), codec(net))
    assert not is_of(model(levels([5, 16], 8)), codec(net, 2))
    assert not is_of(model(VectorQuantizer(5, 8, channel_dim=1)), codec(net, 1))
    assert not is_of(net, codec(nested()))


def test_levels_of_images():
    net = residual()
    images = [np.moveaxis(each, 0, -1) for _, each in pictures()]
    whole, first = encode_images(net, images), encode_images(net, images, levels=1)
    found, expected = decode_images(net, first), decode_images(net, whole, levels=1)
    assert same(map(np.asarray, found), map(np.asarray, expected))
    with pytest.raises(UserError, match="levels: expected 1 to 3; got 4"):
        encode_images(net, images, levels=4)


def test_large_images_in_tiles(monkeypatch):
    net = residual()
    images = [("", np.random.default_rng(0).integers(0, 256, (3, 40, 44), np.uint8))]
    whole = encode(net, images, levels=2)
    monkeypatch.setattr("rotvq.tokens.coding.PIXELS", 500)
    monkeypatch.setattr("rotvq.tokens.tiles.SIDE", 16)
    tiled = encode(net, images, levels=2)
    assert np.mean(tiled[0] == whole[0]) > 0.99
    (one,), (other,) = pixels(net, tiled, levels=1), pixels(net, whole, levels=1)
    assert np.abs(one.astype(int) - other).mean() < 1
