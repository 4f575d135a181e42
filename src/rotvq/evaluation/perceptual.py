"""rFID and LPIPS of reconstructions, with the networks that everyone measures them with.

The networks are TorchScript files (the Inception of 2015-12-05 and a VGG16 with LPIPS's weights,
both as in NVIDIA's StyleGAN2-ADA), so that no further package is needed: from a path, or fetched
once and kept in torch's cache.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from rotvq.errors import UserError, first_line
from rotvq.evaluation.evaluate import evaluating
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.model import VQVAE

_FROM = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"
NETWORKS = {"rfid": f"{_FROM}/inception-2015-12-05.pt", "lpips": f"{_FROM}/vgg16.pt"}
"""Where the network of each metric is fetched from."""
SHA256 = {
    "rfid": "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "lpips": "b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3",
}
"""What is fetched has this hash or is refused: a TorchScript file is a program."""

PROTOCOL = {
    "rfid": "Fréchet distance of Inception features (2048, TensorFlow's weights of 2015-12-05), "
    "originals of the split against their reconstructions, decoded from indices, rounded to 8 "
    "bits, at their own size; depends on the number of images, and on small ones says little",
    "lpips": "LPIPS with VGG16, originals of the split against their reconstructions, rounded to 8 "
    "bits, at their own size; mean over images",
}


def network(metric: str, path: str = "") -> nn.Module:
    """The network of a metric, on the CPU.

    Args:
        metric: "rfid" or "lpips".
        path: of the file; empty fetches it.

    Raises:
        UserError: the file is absent or damaged, or cannot be fetched.
    """
    found = Path(path).expanduser() if path else _fetched(metric)
    if not found.is_file():
        raise UserError(f"--{metric}: expected the network's file; there is no {found}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(found, map_location="cpu").eval()
    # torch says RuntimeError of whatever is wrong with the file.
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--{metric}: expected a TorchScript network as of {NETWORKS[metric]}; {found} is "
            f"none, or damaged ({reason})."
        ) from None


@torch.no_grad()
def measure(
    model: VQVAE,
    images: UInt8[Tensor, "n c h w"],
    networks: dict[str, nn.Module],
    batch_size: int = 128,
    progress: Callable[[int], object] = lambda images: None,
) -> dict[str, float]:
    """The metrics whose networks are given.

    Args:
        model: in evaluation mode for the time of the call.
        images: on the model's device.
        networks: by the name of the metric.
        batch_size: images at a time.
        progress: told after each batch how many images it had.

    Raises:
        UserError: rFID of a single image, which has no covariance.
    """
    if "rfid" in networks and len(images) < 2:
        raise UserError(f"--rfid: expected two images or more; got {len(images)}.")
    device = images.device
    networks = {name: net.to(device) for name, net in networks.items()}
    distance = _distance(networks["rfid"], device) if "rfid" in networks else None
    differences: list[Tensor] = []
    with evaluating(model):
        for part in images.split(batch_size):
            back = to_uint8(model.decode(model.encode(normalized(part))))
            pair = _coloured(part), _coloured(back)
            if distance is not None:
                distance.update(pair[0], real=True)
                distance.update(pair[1], real=False)
            if "lpips" in networks:
                features = [
                    networks["lpips"](each.float(), resize_images=False, return_lpips=True)
                    for each in pair
                ]
                differences.append((features[0] - features[1]).square().sum(1))
            progress(len(part))
    found = {}
    if distance is not None:
        found["rfid"] = float(distance.compute())
    if differences:
        found["lpips"] = float(torch.cat(differences).double().mean())
    return found


class _Features(nn.Module):
    """Inception's features, as torchmetrics asks for them."""

    def __init__(self, net: nn.Module, number: int) -> None:
        super().__init__()
        self.net, self.num_features = net, number

    def forward(self, images: Tensor) -> Any:
        return self.net(images, return_features=True)


def _distance(net: nn.Module, device: torch.device) -> FrechetInceptionDistance:
    probe = torch.zeros(1, 3, 32, 32, dtype=torch.uint8, device=device)
    number = net(probe, return_features=True).shape[1]
    return FrechetInceptionDistance(feature=_Features(net, number)).to(device)


def _coloured(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


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
            f"--{metric}: expected {path} or a connection; {address} cannot be fetched "
            f"({type(error).__name__}: {first_line(error)}). Fetch it elsewhere and pass its "
            f"path: --{metric} FILE"
        ) from None
    return path
