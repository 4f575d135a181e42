"""Pictures of codes: what a model decodes them to among the tokens of a mid-gray image."""

from __future__ import annotations

import pytest
import torch

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import (
    FiniteScalarQuantizer,
    GroupedQuantizer,
    MultiScaleQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from rotvq.tokens import code_pictures as module
from rotvq.tokens.code_pictures import code_pictures, neutral_token


def vector(size, dim):
    quantizer = VectorQuantizer(size, dim, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    return quantizer


QUANTIZERS = {
    "vector": lambda: vector(11, 4),
    "finite scalar": lambda: FiniteScalarQuantizer([3, 2, 2, 2], channel_dim=1),
    "residual": lambda: ResidualQuantizer([vector(5, 4), vector(7, 4)]),
    "grouped": lambda: GroupedQuantizer([vector(6, 2), vector(3, 2)]),
}


def model(kind, **options):
    torch.manual_seed(0)
    net = VQVAE(width=8, dim=4, depth=1, quantizer=QUANTIZERS[kind](), **options)
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("kind", sorted(QUANTIZERS))
def test_a_picture_is_the_middle_of_a_gray_image_with_one_index_replaced(kind, stages, monkeypatch):
    monkeypatch.setattr(module, "_PIXELS", 1)  # one code at a time
    net = model(kind, stages=stages)
    side, middle = module.GRID * net.stride, module.GRID // 2
    gray = net.encode(torch.zeros(1, 3, side, side))[0, middle, middle]
    assert torch.equal(neutral_token(net), gray)
    for codebook, size in enumerate(net.quantizer.codebook_sizes):
        pictures = code_pictures(net, codebook)
        assert pictures.shape == (size, 3, 2 * net.stride, 2 * net.stride)
        assert len(pictures.unique(dim=0)) > 1
        for code in (0, size - 1):
            tokens = gray.expand(1, module.GRID, module.GRID, *gray.shape).clone()
            if gray.ndim:
                tokens[0, middle, middle, codebook] = code
            else:
                tokens[0, middle, middle] = code
            first = middle * net.stride - net.stride // 2
            shown = slice(first, first + 2 * net.stride)
            wanted = (net.decode(tokens)[0, :, shown, shown] + 1) * 127.5
            assert (pictures[code] - wanted).abs().max() <= 0.51


def test_gray_images_have_one_channel():
    assert code_pictures(model("vector", channels=1)).shape == (11, 1, 8, 8)


def test_codes_of_several_scales_are_refused():
    net = VQVAE(width=8, dim=4, depth=1, quantizer=MultiScaleQuantizer(vector(5, 4), (1, 2)))
    with pytest.raises(UserError, match="expected codes of single positions"):
        code_pictures(net)


def test_too_many_codes_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_CODES", 10)
    with pytest.raises(UserError, match="expected at most 10 codes to draw; got 11"):
        code_pictures(model("vector"))
