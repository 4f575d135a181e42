"""rFID and LPIPS of reconstructions, with the networks that are commonly used for them.

The networks are TorchScript files (the Inception network of 2015-12-05 and a VGG16 with the weights
of LPIPS, both as in NVIDIA's StyleGAN2-ADA), so no further package is needed. They are read from a
path, or downloaded once into torch's cache.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from rotvq.errors import UserError, first_line
from rotvq.evaluation.pixels import to_uint8
from rotvq.paths import expanded

_FROM = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"
NETWORKS = {"rfid": f"{_FROM}/inception-2015-12-05.pt", "lpips": f"{_FROM}/vgg16.pt"}
"""Download address of the network of each metric."""
SHA256 = {
    "rfid": "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "lpips": "b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3",
}
"""A download with another hash is refused: a TorchScript file is a program."""

PROTOCOL = {
    "rfid": "Fréchet distance of Inception features (2048, TensorFlow's weights of 2015-12-05), "
    "originals of the split against their reconstructions, decoded from indices, rounded to 8 "
    "bits, at their own size; depends on the number of images and means little on small ones",
    "lpips": "LPIPS with VGG16, originals of the split against their reconstructions, rounded to 8 "
    "bits, at their own size; mean over images",
}


def network(metric: str, path: str = "") -> nn.Module:
    """The network of a metric, on the CPU.

    Args:
        metric: "rfid" or "lpips".
        path: path of the file; "" downloads it.

    Raises:
        UserError: the file is missing or damaged, or the download fails.
    """
    found = network_file(metric, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(found, map_location="cpu").eval()
    # torch raises RuntimeError, whatever is wrong with the file.
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--{metric}: expected a TorchScript network like {NETWORKS[metric]}; {found} is "
            f"something else, or damaged ({reason}). Download it again."
        ) from None


def network_file(metric: str, path: str = "") -> Path:
    """The file of a metric's network; "" downloads it.

    Raises:
        UserError: the file is missing, or the download fails.
    """
    found = expanded(path) if path else _fetched(metric)
    if not found.is_file():
        raise UserError(f"--{metric}: expected the file of the network; there is no {found}.")
    return found


class PerceptualMetrics:
    """The metrics whose networks are given, accumulated batch by batch.

    Args:
        networks: the networks from `network`, by metric.
        images: number of images to come.

    Raises:
        UserError: rFID was requested for a single image, which has no covariance.
    """

    def __init__(self, networks: Mapping[str, nn.Module], images: int) -> None:
        if "rfid" in networks and images < 2:
            raise UserError(
                f"--rfid: expected two images or more; got {images}. Use a larger split."
            )
        self._lpips = networks.get("lpips")
        self._distance = inception_distance(networks["rfid"]) if "rfid" in networks else None
        self._differences: list[Tensor] = []

    @torch.no_grad()
    def add(self, x: Float[Tensor, "b c h w"], reconstruction: Float[Tensor, "b c h w"]) -> None:
        """Add images and their reconstructions, both in [-1, 1]."""
        pair = [to_uint8(each).cpu().expand(-1, 3, -1, -1) for each in (x, reconstruction)]
        if self._distance is not None:
            for each, real in zip(pair, (True, False), strict=True):
                self._distance.update(each, real=real)
        if self._lpips is not None:
            a, b = (
                self._lpips(each.float(), resize_images=False, return_lpips=True) for each in pair
            )
            self._differences.append((a - b).square().sum(1))

    def compute(self) -> dict[str, float]:
        """The metrics by name."""
        found = {}
        if self._distance is not None:
            found["rfid"] = float(self._distance.compute())
        if self._lpips is not None:
            found["lpips"] = float(torch.cat(self._differences).double().mean())
        return found


class _Features(nn.Module):
    """The features of Inception, as a module for torchmetrics."""

    def __init__(self, net: nn.Module, number: int) -> None:
        super().__init__()
        self.net, self.num_features = net, number

    def forward(self, images: Tensor) -> Any:
        return self.net(images, return_features=True)


def inception_distance(net: nn.Module) -> FrechetInceptionDistance:
    """The Fréchet distance of Inception features; `update` it with uint8 images (n, 3, h, w)."""
    probe = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    number = net(probe, return_features=True).shape[1]
    return FrechetInceptionDistance(feature=_Features(net, number))


def _fetched(metric: str) -> Path:
    address = NETWORKS[metric]
    path = Path(torch.hub.get_dir()) / "rotvq" / address.rpartition("/")[2]
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(path), SHA256[metric], progress=False)
    # Connection errors share no base class.
    except Exception as error:
        raise UserError(
            f"--{metric}: expected {path} or a connection; {address} cannot be downloaded "
            f"({type(error).__name__}: {first_line(error)}). Download it elsewhere and pass its "
            f"path: --{metric} FILE"
        ) from None
    return path
