"""Exported programs against the model, on other shapes than the example's."""

import numpy as np
import pytest
import torch

from rotvq.errors import UserError
from rotvq.export import differences, load_onnx, load_torch, to_onnx, to_torch
from rotvq.model import VQVAE
from rotvq.quantization import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    LinearMap,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)

WAYS = {"torch": (to_torch, load_torch), "onnx": (to_onnx, load_onnx)}


def model(network="paper", **changes):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(50, 8, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    small = {"width": 8, "dim": 8, "depth": 1, "quantizer": quantizer, "network": network}
    return VQVAE(**small | changes).eval()


def images(n, height, width, channels=3):
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (n, channels, height, width), np.uint8))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", ["paper", "patches", "attention"])
def test_any_batch_and_size(way, network, tmp_path):
    write, read = WAYS[way]
    net = model(network)
    encode, decode = map(read, write(net, tmp_path))
    for n, height, width in ((1, 32, 32), (3, 8, 20)):
        share, largest = differences(net, encode, decode, images(n, height, width))
        assert share == 0 and largest < 1e-5
    assert encode(torch.zeros(2, 3, 8, 8)).dtype == torch.int64


@pytest.mark.parametrize("way", WAYS)
def test_finite_scalar_and_gray(way, tmp_path):
    write, read = WAYS[way]
    quantizer = FiniteScalarQuantizer([5, 4, 3], channel_dim=1)
    net = model(channels=1, dim=3, quantizer=quantizer, normalized_latents=True)
    encode, decode = map(read, write(net, tmp_path))
    assert differences(net, encode, decode, images(2, 12, 8, channels=1))[0] == 0


BINARY_OR_COSINE = {
    "lookup-free": lambda: LookupFreeQuantizer(8, channel_dim=1),
    "spherical": lambda: BinarySphericalQuantizer(8, channel_dim=1),
    "cosine": lambda: VectorQuantizer(
        50, 8, metric="cosine", update=GradientLearned(), channel_dim=1
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", BINARY_OR_COSINE.values(), ids=BINARY_OR_COSINE.keys())
def test_binary_and_cosine_codes(way, make, tmp_path):
    write, read = WAYS[way]
    net = model(quantizer=make())
    encode, decode = map(read, write(net, tmp_path))
    share, largest = differences(net, encode, decode, images(2, 12, 8))
    assert share == 0 and largest < 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_a_linear_map_is_exported(way, tmp_path):
    write, read = WAYS[way]
    net = model(quantizer=VectorQuantizer(50, 8, update=LinearMap(), channel_dim=1))
    with torch.no_grad():
        next(net.quantizer.parameters()).add_(torch.randn(8, 8))
    encode, decode = map(read, write(net, tmp_path))
    assert differences(net, encode, decode, images(2, 12, 8))[0] == 0


@pytest.mark.parametrize("way", WAYS)
def test_several_codebooks(way, tmp_path):
    write, read = WAYS[way]
    groups = [[VectorQuantizer(50, 4, channel_dim=1) for _ in range(2)] for _ in range(2)]
    net = model(quantizer=GroupedQuantizer([ResidualQuantizer(group) for group in groups]))
    paths = write(net, tmp_path)
    encode, decode = map(read, paths)
    assert encode(torch.zeros(1, 3, 8, 12)).shape == (1, 2, 3, 2, 2)
    share, largest = differences(net, encode, decode, images(2, 12, 8))
    assert share == 0 and largest < 1e-5
    if way == "onnx":
        loaded = pytest.importorskip("onnx").load(paths[0])
        meaning = {entry.key: entry.value for entry in loaded.metadata_props}
        assert meaning["rotvq.codebook_sizes"] == "[50, 50, 50, 50]"
        assert meaning["rotvq.index_shape"] == "[2, 2]" and meaning["rotvq.bits"] == "24"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_several_scales(way, tmp_path):
    write, read = WAYS[way]
    quantizer = MultiScaleQuantizer(VectorQuantizer(50, 8, channel_dim=1), (2, 4))
    for codebook in quantizer.codebooks:
        torch.nn.init.normal_(codebook.embeddings)
    net = model(quantizer=quantizer, network="patches", depth=0)
    encode, decode = map(read, write(net, tmp_path))
    for n, height, width in ((1, 8, 8), (2, 20, 12)):
        share, largest = differences(net, encode, decode, images(n, height, width))
        assert share == 0 and largest < 1e-5


@pytest.fixture(scope="module")
def onnx_programs(tmp_path_factory):
    return to_onnx(model(), tmp_path_factory.mktemp("onnx"))


def test_axes_are_named_and_the_metadata_describes_them(onnx_programs):
    onnx = pytest.importorskip("onnx")
    pictures, tokens = ["batch", 3, "height", "width"], ["batch", "rows", "columns"]
    wanted = ([pictures, tokens], [tokens, pictures])
    for path, expected in zip(onnx_programs, wanted, strict=True):
        loaded = onnx.load(path)
        onnx.checker.check_model(loaded, full_check=True)
        found = [
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*loaded.graph.input, *loaded.graph.output)
        ]
        assert found == expected
        meaning = {entry.key: entry.value for entry in loaded.metadata_props}
        assert meaning["rotvq.codebook_sizes"] == "[50]" and meaning["rotvq.stride"] == "4"
        assert meaning["rotvq.range"] == "[-1, 1]" and meaning["rotvq.channels"] == "3"
        assert len(meaning["rotvq.model"]) == 16


def test_sides_that_are_not_multiples_of_the_stride_are_refused(onnx_programs, tmp_path):
    for encode, message in (
        (load_onnx(onnx_programs[0]), "height_and_width_must_be_multiples_of_4"),
        (load_torch(to_torch(model(), tmp_path)[0]), r"images\.size\(\)\[.\] % 4 == 0"),
    ):
        for size in ((427, 640), (20, 27)):
            with pytest.raises(Exception, match=message):
                encode(torch.zeros(1, 3, *size))


def test_a_model_too_large_for_one_file_is_refused(tmp_path, monkeypatch):
    made = model()
    sizes = [path.stat().st_size for path in to_onnx(made, tmp_path / "both")]
    monkeypatch.setattr("rotvq.export.LARGEST_ONNX", max(sizes))
    to_onnx(made, tmp_path / "again")
    weights = sum(p.nbytes for p in (*made.decoder.parameters(), *made.quantizer.buffers()))
    monkeypatch.setattr("rotvq.export.LARGEST_ONNX", weights // 2)
    with pytest.raises(UserError, match=r"expected at most [\d,]+ bytes of weights.*--to torch"):
        to_onnx(made, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_outputs_that_differ_from_the_model_are_refused():
    net = model()
    with pytest.raises(UserError, match=r"100\.00% of the indices differ"):
        differences(net, lambda x: net.encode(x) + 1, net.decode, images(2, 8, 8))
    with pytest.raises(UserError, match=r"pixels differ by up to 0\.5"):
        differences(net, net.encode, lambda i: net.decode(i) + 0.5, images(2, 8, 8))


@pytest.mark.parametrize("way", WAYS)
def test_a_model_in_training_stays_in_training(way, tmp_path):
    net = model()
    net.train()
    net.quantizer.eval()  # a frozen codebook
    WAYS[way][0](net, tmp_path / "new" / "folder")
    assert net.training and net.encoder.training and not net.quantizer.training
