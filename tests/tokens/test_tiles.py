"""Large images in tiles: the tokens and pixels of whole ones."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from rotvq.errors import UserError
from rotvq.evaluation.ssim import structural_error
from rotvq.model import VQVAE
from rotvq.model.error_functions import squared_error
from rotvq.model.token_search import TokenSearch
from rotvq.quantization import VectorQuantizer
from rotvq.tokens import coding, tiles


def model(**changes):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(50, 8, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    net = VQVAE(**{"width": 8, "dim": 8, "depth": 2, "quantizer": quantizer} | changes)
    for parameter in net.parameters():  # what starts at zero would reach no neighbor
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)


@pytest.mark.parametrize("network", ["paper", "patches"])
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("size", [(64, 90), (131, 67), (16, 300)])
def test_tokens_and_pixels_are_those_of_the_whole_image(network, stages, size, monkeypatch):
    net = model(network=network, stages=stages)
    whole = coding.encode(net, [("", picture(*size))])
    ((_, pixels),) = coding.decode(net, whole)
    monkeypatch.setattr(tiles, "SIDE", 32)
    monkeypatch.setattr(coding, "PIXELS", 1000)
    tiled = coding.encode(net, [("", picture(*size))])
    assert tiled.packed == whole.packed and list(tiled.sizes) == [size]
    ((_, from_tiles),) = coding.decode(net, tiled)
    assert np.abs(from_tiles.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("network", ["paper", "patches"])
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_inputs_beyond_the_margin_have_no_effect(network, stages, depth):
    net = model(network=network, stages=stages, depth=depth).double()
    side = 41
    around = tiles.reach(net.encoder)
    x = torch.zeros(1, 3, side * net.stride, side * net.stride, dtype=torch.float64)
    x.requires_grad_()
    net.encoder(x)[0, :, side // 2, side // 2].sum().backward()
    touched = x.grad[0].abs().sum(0).nonzero() // net.stride
    assert (touched - side // 2).abs().max() <= around
    codes = torch.zeros(1, 8, side, side, dtype=torch.float64, requires_grad=True)
    middle = slice(side // 2 * net.stride, (side // 2 + 1) * net.stride)
    net.decoder(codes)[0, :, middle, middle].sum().backward()
    touched = codes.grad[0].abs().sum(0).nonzero()
    assert (touched - side // 2).abs().max() <= tiles.reach(net.decoder)


def test_attention_limits_the_number_of_tokens(monkeypatch):
    net = model(network="attention")
    assert tiles.reach(net.encoder) is None
    monkeypatch.setattr(coding, "ATTENDED", 100)
    images = [("a", picture(40, 40)), ("large", picture(40, 44)), ("b", picture(8, 8))]
    skipped = []
    tokens = coding.encode(net, coding.codable(net, images, skipped))
    assert list(tokens.names) == ["a", "b"]
    ((name, reason, detail),) = skipped
    assert (name, reason) == ("large", "too large") and "100 tokens" in detail
    with pytest.raises(UserError, match=r"at most 100 tokens.* got 10x11\. Resize the image"):
        coding.encode(net, images)


def error_of(net, tokens, pixels, error=squared_error):
    """The error before rounding, in whole images."""
    (indices,) = tokens
    y = net.decode(torch.from_numpy(indices)[None])[:, :, : pixels.shape[1], : pixels.shape[2]]
    return error(y.double(), torch.from_numpy(pixels)[None].double() / 127.5 - 1).item()


@pytest.mark.parametrize("network", ["paper", "patches"])
@pytest.mark.parametrize("size", [(64, 90), (131, 67), (16, 200)])
def test_a_search_in_tiles_lowers_the_error_of_the_whole_image(network, size, monkeypatch):
    net, pixels = model(network=network), picture(*size)
    first = coding.encode(net, [("", pixels)])
    whole = coding.encode(net, [("", pixels)], effort=3)
    monkeypatch.setattr(tiles, "SEARCH_SIDE", 32)
    monkeypatch.setattr(coding, "SEARCHED", 1000)
    tiled = coding.encode(net, [("", pixels)], effort=3)
    before, by_whole, by_tiles = (error_of(net, each, pixels) for each in (first, whole, tiled))
    assert by_tiles < before and by_tiles == pytest.approx(by_whole, abs=0.3 * (before - by_whole))


@pytest.mark.parametrize("network", ["paper", "patches"])
@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("error", [squared_error, structural_error])
def test_no_tile_raises_the_error_of_the_image(network, stages, error, monkeypatch):
    net, pixels = model(network=network, stages=stages), picture(61, 83)
    (indices,) = coding.encode(net, [("", pixels)])
    around, errors = tiles.reach(net.decoder), [error_of(net, [indices], pixels, error)]
    windows = 0 if error is squared_error else -(-10 // net.stride)
    search = TokenSearch(net)

    def watched(x, first, *others):
        found = search(x, first, 4, *others)
        changes.append((first != found)[0].numpy())
        return found

    changes = []
    monkeypatch.setattr(tiles, "SEARCH_SIDE", 16)
    grid = indices.shape
    for outer, inner, kept in tiles._tiles(grid, 16 // net.stride, 2 * around + windows):
        monkeypatch.setattr(tiles, "_tiles", lambda *_, tile=(outer, inner, kept): [tile])
        found = tiles.search(watched, net, pixels, indices, around, error)
        monkeypatch.undo()
        outside = np.ones(grid, bool)
        outside[inner] = False
        assert (found == indices)[outside].all()
        assert np.array_equal((found != indices)[outer], changes[-1])
        indices = found
        errors.append(error_of(net, [indices], pixels, error))
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(errors))
    assert len(errors) > 4 and errors[-1] < errors[0]


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_structural_error_of_a_tile_changes_as_that_of_the_image(stages, monkeypatch):
    net, pixels = model(network="patches", stages=stages), picture(61, 83)
    (indices,) = coding.encode(net, [("", pixels)])
    generator, changes = np.random.default_rng(0), []

    def randomized(x, first, error, free):
        found = first.clone()
        found[0][free] = torch.from_numpy(generator.integers(0, 50, int(free.sum())))
        before, after = (error(net.decode(t).double(), x.double()) for t in (first, found))
        changes.append((after - before).item())
        return found

    monkeypatch.setattr(tiles, "SEARCH_SIDE", 16)
    around = tiles.reach(net.decoder)
    found = tiles.search(randomized, net, pixels, indices, around, structural_error)
    before, after = (error_of(net, [t], pixels, structural_error) for t in (indices, found))
    assert len(changes) > 10 and sum(changes) == pytest.approx(after - before, abs=1e-4)


def test_a_network_with_attention_is_searched_as_a_whole(monkeypatch):
    net, pixels = model(network="attention"), picture(40, 36)
    whole = coding.encode(net, [("", pixels)], effort=2)
    monkeypatch.setattr(coding, "SEARCHED", 1)
    assert coding.encode(net, [("", pixels)], effort=2).packed == whole.packed


@pytest.mark.parametrize("effort", [0, 1])
def test_the_network_never_sees_more_than_a_tile_and_its_margin(effort, monkeypatch):
    """Which bounds the memory, however large the image is."""
    monkeypatch.setattr(tiles, "SIDE", 32)
    monkeypatch.setattr(tiles, "SEARCH_SIDE", 16)
    monkeypatch.setattr(coding, "PIXELS", 1000)
    monkeypatch.setattr(coding, "SEARCHED", 1000)
    net = model(network="patches", depth=1)
    seen = {"encoder": [], "decoder": []}
    for name, sizes in seen.items():
        part = getattr(net, name)
        part.register_forward_pre_hook(lambda _, x, sizes=sizes: sizes.append(x[0].shape[2:]))
    tokens = coding.encode(net, [("", picture(160, 200))], effort=effort)
    searched = len(seen["decoder"])
    list(coding.decode(net, tokens))
    stride, margins = net.stride, {name: tiles.reach(getattr(net, name)) for name in seen}
    encoded, decoded = (
        max(map(max, sizes)) for sizes in (seen["encoder"], seen["decoder"][searched:])
    )
    assert encoded == 32 + 2 * margins["encoder"] * stride
    assert decoded == 32 // stride + 2 * margins["decoder"]
    assert len(seen["decoder"]) - searched == 5 * 7 and len(seen["encoder"]) == 5 * 7
    if effort:
        in_search = max(map(max, seen["decoder"][:searched]))
        assert in_search == 16 // stride + 4 * margins["decoder"]
