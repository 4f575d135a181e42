"""Token files of several scales."""

import numpy as np
import pytest
import torch

from rotvq import TokenDataset
from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import MultiScaleQuantizer, VectorQuantizer
from rotvq.tokens.coding import codable, decode, encode
from rotvq.tokens.file import KINDS, load_tokens, read_header, save_tokens
from rotvq.tokens.header import header, read_codec
from rotvq.tokens.model_codec import codec, fingerprint, is_of


def model(scales=(1, 2, 4)):
    torch.manual_seed(0)
    quantizer = MultiScaleQuantizer(VectorQuantizer(9, 8, channel_dim=1), scales)
    for codebook in quantizer.codebooks:
        torch.nn.init.normal_(codebook.embeddings, std=0.3)
    return VQVAE(width=8, dim=8, depth=0, quantizer=quantizer, network="patches").eval()


def pictures():
    draw = np.random.default_rng(0)
    return [(str(n), draw.integers(0, 256, (3, 13, 16 + 4 * n), np.uint8)) for n in range(3)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("levels, tokens", [(None, [21, 28, 32]), (2, [5, 8, 8])])
def test_files_hold_one_map_after_the_other(tmp_path, suffix, levels, tokens):
    net, path = model(), tmp_path / f"some{suffix}"
    found = encode(net, pictures(), levels=levels)
    save_tokens(found, path)
    back = load_tokens(path)
    assert back.codec == found.codec and is_of(net, back.codec)
    assert (back.codec.scales, back.codec.index_shape) == ((1, 2, 4), (levels or 3,))
    assert len(back.packed) == sum(-(-number * 4 // 8) for number in tokens)
    assert same(back, found) and same((each[0] for each in TokenDataset(path)), found)
    for (_, pixels), indices in zip(decode(net, back), back, strict=True):
        whole = torch.from_numpy(indices)[None]
        x = ((net.decode(whole)[0].clamp(-1, 1) + 1) * 127.5).round()
        height, width = pixels.shape[1:]
        assert np.abs(pixels - x[:, :height, :width].numpy()).max() <= 1
    assert int(read_header(path)["version"]) == 4


def test_scales_and_all_their_codes_are_part_of_the_fingerprint():
    net = model()
    before = fingerprint(net)
    assert before != fingerprint(model((1, 2, 8)))
    with torch.no_grad():
        net.quantizer.codebooks[1].embeddings[0, 0] += 1
    assert fingerprint(net) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"scales": [2, 1, 4]},
        {"scales": [1, 2]},  # tokens of three
        {"scales": [1, 2, 2**20]},
        {"scales": "1,2,4"},
        {"codebook_sizes": [9, 9, 9]},
        {"index_shape": [3, 1]},
        {"index_shape": [0]},
    ],
)
def test_headers_that_make_no_sense_are_refused(changes):
    described = header(encode(model(), pictures()))
    assert read_codec(described) == codec(model())
    with pytest.raises(ValueError, match=r"of the scales|Extra data|too many values"):
        read_codec(described | changes)


def test_large_images_are_refused(monkeypatch):
    monkeypatch.setattr("rotvq.tokens.coding.PIXELS", 250)
    net, skipped = model(), []
    assert [name for name, _ in codable(net, pictures(), skipped)] == ["0"]
    assert [each.path for each in skipped] == ["1", "2"]
    with pytest.raises(UserError, match="expected at most 250 pixels, because tokens of coarse"):
        encode(net, pictures())
