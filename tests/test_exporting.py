"""Exported programs against the model, on other shapes than the example's."""

import numpy as np
import pytest
import torch

from rotvq.errors import UserError
from rotvq.exporting import differences, load_onnx, load_torch, to_onnx, to_torch
from rotvq.model import VQVAE
from rotvq.quantization import FiniteScalarQuantizer, VectorQuantizer

WAYS = {"torch": (to_torch, load_torch), "onnx": (to_onnx, load_onnx)}


def model(network="paper", **changes):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(50, 8, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.e)
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
def test_finite_scalar_and_grey(way, tmp_path):
    write, read = WAYS[way]
    quantizer = FiniteScalarQuantizer([5, 4, 3], channel_dim=1)
    net = model(channels=1, dim=3, quantizer=quantizer, sphere=True)
    encode, decode = map(read, write(net, tmp_path))
    assert differences(net, encode, decode, images(2, 12, 8, channels=1))[0] == 0


def test_the_metadata_says_whose_indices_they_are(tmp_path):
    onnx = pytest.importorskip("onnx")
    path, _ = to_onnx(model(), tmp_path)
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert found["rotvq.codebook_size"] == "50" and found["rotvq.stride"] == "4"
    assert len(found["rotvq.model"]) == 16


def test_other_outputs_are_refused():
    net = model()
    with pytest.raises(UserError, match=r"100\.00% of the indices differ"):
        differences(net, lambda x: net.encode(x) + 1, net.decode, images(2, 8, 8))
    with pytest.raises(UserError, match=r"pixels by up to 0\.5"):
        differences(net, net.encode, lambda i: net.decode(i) + 0.5, images(2, 8, 8))
