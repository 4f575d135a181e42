"""Images to tokens and back with a model."""

import math

import numpy as np
import pytest
import torch

from rotvq.errors import UserError
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.model import VQVAE, level_search
from rotvq.model.error_functions import within
from rotvq.model.token_search import TokenSearch
from rotvq.names import EFFORTS
from rotvq.quantization import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    LookupFreeQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from rotvq.tokens import coding
from rotvq.tokens.coding import decode, encode, padded
from rotvq.tokens.file import KINDS, load_tokens, save_tokens
from rotvq.tokens.model_codec import codec, fingerprint


def model(seed=0, **changes):
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(50, 8, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    return VQVAE(**{"width": 8, "dim": 8, "depth": 1, "quantizer": quantizer} | changes)


def picture(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (channels, height, width), np.uint8)


def test_decoded_tokens_equal_the_reconstruction():
    net = model()
    images = [(f"{i}.png", picture(16, 24, seed=i)) for i in range(5)]
    tokens = encode(net, images, batch_size=2)
    x = normalized(torch.from_numpy(np.stack([pixels for _, pixels in images])))
    expected = to_uint8(net.eval()(x).reconstruction).detach().numpy()
    names, found = zip(*decode(net, tokens, batch_size=3), strict=True)
    assert list(names) == [name for name, _ in images]
    assert np.abs(np.stack(found).astype(int) - expected).max() <= 1  # of another batch size
    assert (np.stack(found) == expected).mean() > 0.999


def test_images_of_any_size_keep_their_size():
    net = model()
    sizes = [(16, 16), (5, 4), (5, 4), (17, 30), (4, 7)]
    tokens = encode(net, [("", picture(*size)) for size in sizes])
    assert tokens.names is None
    assert list(tokens.sizes) == sizes
    assert [pixels.shape for _, pixels in decode(net, tokens)] == [(3, *size) for size in sizes]


def test_images_are_padded_by_repeating_the_edge():
    x = torch.arange(6, dtype=torch.uint8).reshape(1, 1, 2, 3)
    assert padded(x, 4)[0, 0].tolist() == [[0, 1, 2, 2], *[[3, 4, 5, 5]] * 3]
    assert padded(x, 1) is x


@pytest.mark.parametrize("network", ["paper", "patches", "attention"])
def test_every_network_handles_other_sizes(network):
    net = model(network=network)
    tokens = encode(net, [("", picture(20, 28))])
    ((_, pixels),) = decode(net, tokens)
    assert pixels.shape == (3, 20, 28)


def test_encoding_changes_nothing_and_reports_progress():
    net, told = model().train(), []
    before = {name: t.clone() for name, t in net.state_dict().items()}
    encode(net, [("", picture(8, 8))] * 5, batch_size=2, progress=told.append)
    assert told == [2, 2, 1] and net.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert len(encode(net, [])) == 0


def test_gray_images_and_finite_scalar_quantization():
    gray = model(channels=1, dim=3, quantizer=FiniteScalarQuantizer([4, 4, 3], channel_dim=1))
    tokens = encode(gray, [("a", picture(8, 8, 1))])
    assert tokens.codec.codebook_sizes == (48,) and tokens.codec.bits == 6
    ((name, pixels),) = decode(gray, tokens)
    assert name == "a" and pixels.shape == (1, 8, 8)
    with pytest.raises(UserError, match=r"\(1, height, width\); got \(3, 8, 8\)"):
        encode(gray, [("a", picture(8, 8, 3))])


def several():
    """One quantizer of each kind with several indices, and FSQ with more codes than fit a table."""
    vectors = [VectorQuantizer(k, 8, channel_dim=1) for k in (5, 16, 3)]
    halves = [
        ResidualQuantizer([VectorQuantizer(k, 4, channel_dim=1) for k in sizes])
        for sizes in ([7, 2], [9, 4])
    ]
    grid = FiniteScalarQuantizer([4] * 4, channel_dim=1)
    return {
        "residual": ResidualQuantizer(vectors),
        "grouped": GroupedQuantizer([VectorQuantizer(6, 4, channel_dim=1), grid]),
        "nested": GroupedQuantizer(halves),
        "lookup-free": LookupFreeQuantizer(8, channel_dim=1),
        "spherical": BinarySphericalQuantizer(8, channel_dim=1),
        "large grid": FiniteScalarQuantizer([64] * 8, channel_dim=1),
    }


SIZES = {
    "residual": (5, 16, 3),
    "grouped": (6, 256),
    "nested": (7, 2, 9, 4),
    "lookup-free": (256,),
    "spherical": (256,),
    "large grid": (2**48,),
}


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("suffix", KINDS)
def test_tokens_and_files_of_every_quantizer(tmp_path, kind, suffix):
    net = model(quantizer=several()[kind])
    for codebook in net.quantizer.codebooks:
        torch.nn.init.normal_(codebook.embeddings)
    images = [("a", picture(16, 24)), ("b", picture(5, 9))]
    save_tokens(encode(net, images), tmp_path / f"t{suffix}")
    tokens = load_tokens(tmp_path / f"t{suffix}")
    assert tokens.codec.codebook_sizes == SIZES[kind]
    assert tokens.codec.index_shape == net.quantizer.index_shape
    assert tokens.codec.bits == sum(math.ceil(math.log2(k)) for k in SIZES[kind])
    x = normalized(torch.from_numpy(images[0][1])[None])
    assert np.array_equal(tokens[0], net.eval().encode(x)[0])
    (_, first), (_, second) = decode(net, tokens)
    expected = to_uint8(net(x).reconstruction)[0].detach().numpy()
    assert np.array_equal(first, expected) and second.shape == (3, 5, 9)


def test_the_fingerprint_covers_every_codebook():
    net = model(quantizer=several()["nested"])
    before = fingerprint(net)
    for codebook in net.quantizer.codebooks:
        codebook.embeddings[0] += 1
        assert fingerprint(net) != before
        before = fingerprint(net)


def test_the_fingerprint_tells_fixed_codes_apart():
    makes = [
        LookupFreeQuantizer(4, channel_dim=1),
        BinarySphericalQuantizer(4, channel_dim=1),
        FiniteScalarQuantizer([4] * 4, channel_dim=1),
        FiniteScalarQuantizer([4] * 4, symmetric=True, channel_dim=1),
    ]
    assert len({fingerprint(model(dim=4, quantizer=quantizer)) for quantizer in makes}) == 4


def test_the_fingerprint_covers_networks_and_codes_only():
    assert fingerprint(model()) == fingerprint(model()) != fingerprint(model(seed=1))
    net = model()
    before = fingerprint(net)
    net.quantizer.codebook.cluster_size += 1
    assert fingerprint(net) == before and len(before) == 16
    for part in (net.quantizer.codebook.embeddings, next(net.decoder.parameters())):
        with torch.no_grad():
            part.view(-1)[0] += 1
        assert fingerprint(net) != before
        before = fingerprint(net)


def test_tokens_of_another_model_are_refused():
    tokens = encode(model(), [("", picture(8, 8))])
    with pytest.raises(UserError, match=f"model of these tokens .{codec(model()).model}"):
        next(decode(model(seed=1), tokens))


def test_batches_of_no_images_are_refused():
    images = [("", picture(8, 8))]
    with pytest.raises(UserError, match="batch_size: expected 1 or more; got 0"):
        encode(model(), images, batch_size=0)
    with pytest.raises(UserError, match="batch_size: expected 1 or more; got -1"):
        next(decode(model(), encode(model(), images), batch_size=-1))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            picture(8, 8) / np.float32(255),
            "a: expected NumPy .* 0 to 255; got float32",
        ),
        (picture(8, 8).astype(np.uint16) * 257, "uint8, 0 to 255; got uint16"),
        (picture(8, 8).astype(np.int64), "uint8, 0 to 255; got int64"),
        (picture(8, 8) > 127, "uint8, 0 to 255; got bool"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "NumPy arrays of uint8, 0 to 255; got torch"),
        (picture(8, 8).transpose(1, 2, 0), r"\(3, height, width\); got \(8, 8, 3\)"),
        (picture(8, 8)[0], r"\(3, height, width\); got \(8, 8\)"),
        (picture(0, 8), r"\(3, height, width\); got \(3, 0, 8\)"),
        (picture(8, 8, 4), r"\(3, height, width\); got \(4, 8, 8\)"),
    ],
)
def test_arrays_of_another_dtype_or_layout_are_refused(pixels, message):
    with pytest.raises(UserError, match=message):
        encode(model(), [("a", pixels)])


@pytest.mark.parametrize("kind", ["vq", "residual", "grouped", "nested"])
def test_no_image_of_any_size_gets_worse_by_a_search(kind):
    net = model() if kind == "vq" else model(quantizer=several()[kind])
    for codebook in net.quantizer.codebooks:
        torch.nn.init.normal_(codebook.embeddings)
    sizes = [(16, 16), (5, 4), (5, 7), (5, 7), (17, 30), (1, 1)]
    images = [("", picture(*size, seed=seed)) for seed, size in enumerate(sizes)]
    first, found = encode(net, images), encode(net, images, effort=3)
    assert first.codec == found.codec and first.sizes == found.sizes
    errors = []
    for tokens in (first, found):
        pairs = zip(images, tokens, strict=True)
        errors.append([squared_error_of(net, indices, pixels) for (_, pixels), indices in pairs])
    before, after = np.array(errors)
    assert (after <= before * (1 + 1e-6)).all() and after[[0, 4]].sum() < before[[0, 4]].sum()


def squared_error_of(net, indices, pixels):
    y = net.decode(torch.from_numpy(indices)[None])[0, :, : pixels.shape[1], : pixels.shape[2]]
    return (y - (torch.from_numpy(pixels) / 127.5 - 1)).square().sum().item()


def test_padding_does_not_count_in_a_search(monkeypatch):
    net, images = model(), [("", picture(18, 21))]
    tokens = encode(net, images, effort=4)
    original = coding.padded

    def noisy(x, stride):
        y = original(x, stride)
        y[..., 18:, :], y[..., 21:] = 255, 0
        return y

    with torch.no_grad():
        first = torch.from_numpy(np.stack([*encode(net, images)]))
        x = normalized(noisy(torch.from_numpy(images[0][1])[None], 4))
        found = TokenSearch(net)(x, first, EFFORTS[4], within(slice(18), slice(21)))
    assert np.array_equal(found[0].numpy(), tokens[0])


def test_the_search_of_a_job_is_set_up_once(monkeypatch):
    made = []
    monkeypatch.setattr(
        level_search, "TokenSearch", lambda *args: made.append(1) or TokenSearch(*args)
    )
    images, told = [("", picture(8, 8, seed=seed)) for seed in range(5)], []
    tokens = encode(model(), images, 2, told.append, effort=1)
    assert made == [1] and told == [2, 2, 1]
    x = normalized(torch.from_numpy(np.stack([pixels for _, pixels in images])))
    assert encode(model(), images, 2, effort=1).packed == tokens.packed
    encode(model(), images)
    assert made == [1, 1]
    expected = model().eval().encode(x, effort=1).numpy()
    assert (np.stack([*tokens]) == expected).mean() > 0.95  # bf16 rounds differently by batch size


@pytest.mark.parametrize("effort", [-1, 10, True, 1.0])
def test_efforts_out_of_range_are_refused(effort):
    with pytest.raises(UserError, match="effort: expected an integer from 0 to 9; got"):
        encode(model(), [("", picture(8, 8))], effort=effort)


def test_a_search_with_damaged_weights_is_refused():
    net = model()
    with torch.no_grad():
        next(net.decoder.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match="expected a finite decoder and codes; got nan"):
        encode(net, [("", picture(8, 8))], effort=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rounded_weights_are_refused(dtype):
    with pytest.raises(UserError, match=r"expected weights in float32.* Call model\.float\(\)"):
        encode(model().to(dtype), [("", picture(8, 8))])
