"""Plots for a notebook, and rotvq codebook."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import rotvq
from rotvq import plotting
from rotvq.cli.main import main
from rotvq.errors import UserError
from rotvq.report import style, usage


def vector(size, dim):
    quantizer = rotvq.VectorQuantizer(size, dim, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    return quantizer


def model(quantizer, **options):
    torch.manual_seed(0)
    return rotvq.VQVAE(width=8, dim=8, depth=1, quantizer=quantizer, **options).eval()


@pytest.fixture
def net():
    return model(vector(20, 8))


@pytest.fixture
def tokens(net):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), np.uint8)
    return rotvq.encode_images(net, pixels)


def test_a_codebook_shows_what_each_code_decodes_to(net):
    drawn = {color for _, color in rotvq.plot_codebook(net, "t").getcolors(2**24)}
    pixels = plotting.code_pictures(net).permute(0, 2, 3, 1).reshape(-1, 3)
    assert {tuple(each) for each in pixels.tolist()} <= drawn


def test_several_codebooks_have_a_section_each(monkeypatch):
    net = model(rotvq.ResidualQuantizer([vector(4, 8), vector(9, 8)]), channels=1)
    monkeypatch.setattr(plotting, "sheet", list)
    first, second = rotvq.plot_codebook(net, "mine")
    assert first[0] == "mine 1 of 2: 4 codes, each decoded in the middle of a mid-gray image"
    assert second[0].startswith("mine 2 of 2: 9 codes,")
    assert (first[1].shape, second[1].shape) == ((4, 8, 8, 3), (9, 8, 8, 3))


def test_too_many_codes_altogether_are_refused(monkeypatch):
    monkeypatch.setattr(plotting, "MOST_CODES", 12)
    net = model(rotvq.ResidualQuantizer([vector(4, 8), vector(9, 8)]))
    with pytest.raises(UserError, match="expected at most 12 codes to draw; got 13"):
        rotvq.plot_codebook(net)


def test_codes_of_several_scales_are_not_drawn():
    net = model(rotvq.MultiScaleQuantizer(vector(4, 8), (1, 2)))
    with pytest.raises(UserError, match="expected codes of single positions"):
        rotvq.plot_codebook(net)
    tokens = rotvq.encode_images(net, [np.zeros((8, 12, 3), np.uint8)])
    with pytest.raises(UserError, match="got maps of several scales"):
        rotvq.plot_usage(tokens)


def test_usage_has_a_row_for_each_image(tokens):
    one, three = rotvq.plot_usage(tokens[:1]), rotvq.plot_usage(tokens)
    assert one.width == three.width and three.height > 2 * one.height


def test_usage_plots_the_chosen_index_of_each_token(monkeypatch):
    net = model(rotvq.ResidualQuantizer([vector(4, 8), vector(9, 8)]))
    tokens = rotvq.encode_images(net, [np.zeros((8, 12, 3), np.uint8)])
    seen = []
    monkeypatch.setattr(usage, "usage", lambda *words: seen.append(words) or _png())
    rotvq.plot_usage(tokens, codebook=1)
    ((grids, size, titles),) = seen
    assert np.array_equal(grids[0], tokens[0][:, :, 1])
    assert (size, titles) == (9, ["image 0"])


def _png():
    from io import BytesIO

    content = BytesIO()
    Image.new("RGB", (1, 1)).save(content, "PNG")
    return content.getvalue()


def test_usage_is_counted_per_image():
    with style.look():
        figure = usage.draw([np.array([[0, 0], [0, 3]]), np.array([[1, 2]])], 4, ["a", "$b"])
    left, right = figure.axes[:2]
    assert np.array_equal(left.images[0].get_array(), [[3, 3], [3, 1]])
    assert right.get_title(loc="left") == "4 tokens, 2 of 4 codes, perplexity 2"
    assert figure.axes[3].get_title(loc="left") == "2 tokens, 2 of 4 codes, perplexity 2"


def test_bad_plots_of_usage(tokens):
    with pytest.raises(UserError, match=r"expected 1 to 12 images; got 13.*tokens\[:12\]"):
        rotvq.plot_usage(rotvq.Tokens(tokens.codec, tokens.sizes[:1] * 13, tokens[:1].packed * 13))
    with pytest.raises(UserError, match="expected 1 to 12 images; got 0"):
        rotvq.plot_usage(tokens[:0])
    with pytest.raises(UserError, match="codebook: expected 0 to 0; got 1"):
        rotvq.plot_usage(tokens, codebook=1)


def test_the_command_writes_the_picture_and_replaces_nothing(net, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net.save_pretrained("m")
    assert main(["codebook", "m"]) == 0
    assert capsys.readouterr().out == "Drew 20 codes of m in codebook.png.\n"
    with Image.open("codebook.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(rotvq.plot_codebook(net, "m")))
    assert main(["codebook", "m"]) == 2
    assert "expected a new file; codebook.png exists" in capsys.readouterr().err
    assert main(["codebook", "m", "--overwrite"]) == 0
    assert main(["codebook", "m", "-o", "c.jpg"]) == 2
    assert "--out: expected a file ending in .png; got c.jpg" in capsys.readouterr().err
