"""rFID and LPIPS with small stand-ins for their networks, against their definitions."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.evaluation import perceptual
from rotvq.evaluation.pixels import normalized, to_uint8

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Inception(nn.Module):
    """Five features of an image."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        assert return_features
        x = x.float() / 255
        return torch.stack(
            [
                x.mean([1, 2, 3]),
                x.std([1, 2, 3]),
                x[:, 0, 0, 0],
                x[:, 1, 3, 4],
                x[:, 2].amax([1, 2]),
            ],
            1,
        )


class Vgg(nn.Module):
    """The pixels themselves."""

    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips and not resize_images
        return x.flatten(1) / 255


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, net in (("rfid", Inception()), ("lpips", Vgg())):
            torch.jit.script(net).save(folder / f"{name}.pt")
    return {name: str(folder / f"{name}.pt") for name in ("rfid", "lpips")}


def images(n=60, channels=3):
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (n, channels, 8, 8), np.uint8))


def frechet(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(s @ t).real.clip(0))
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t) - 2 * roots.sum()


@pytest.mark.parametrize("channels", [1, 3])
def test_metrics_match_their_definitions(files, channels):
    a, b = normalized(images(channels=channels)), torch.randn(60, channels, 8, 8)
    networks = {name: perceptual.network(name, path) for name, path in files.items()}
    metrics = perceptual.PerceptualMetrics(networks, len(a))
    for pair in zip(a.split(16), b.split(16), strict=True):
        metrics.add(*pair)
    found = metrics.compute()
    x, back = (to_uint8(each).expand(-1, 3, -1, -1) for each in (a, b))
    features = [Inception()(each, return_features=True) for each in (x, back)]
    assert found["rfid"] == pytest.approx(frechet(*features), rel=1e-3)
    pixels = (x.double() - back.double()) / 255
    assert found["lpips"] == pytest.approx(pixels.square().sum((1, 2, 3)).mean().item(), rel=1e-3)


def test_only_requested_metrics_are_computed(files):
    x = normalized(images(2))
    for names in ([], ["rfid"], ["lpips"]):
        networks = {name: perceptual.network(name, files[name]) for name in names}
        metrics = perceptual.PerceptualMetrics(networks, len(x))
        metrics.add(x, x)
        assert [*metrics.compute()] == names


def test_a_single_image_has_no_covariance(files):
    network = perceptual.network("rfid", files["rfid"])
    with pytest.raises(UserError, match="--rfid: expected two images or more; got 1"):
        perceptual.PerceptualMetrics({"rfid": network}, 1)


def test_missing_and_invalid_networks_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"--rfid: expected the file of the network; there is no .*a\.pt"
    ):
        perceptual.network("rfid", str(tmp_path / "a.pt"))
    (tmp_path / "a.pt").write_bytes(b"no network")
    with pytest.raises(UserError, match="--lpips: expected a TorchScript network") as caught:
        perceptual.network("lpips", str(tmp_path / "a.pt"))
    assert "\n" not in str(caught.value)


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"cannot be downloaded \(OSError: no route.*--rfid FILE"):
        perceptual.network("rfid")


def test_a_download_with_another_hash_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(perceptual.NETWORKS, "rfid", Path(files["rfid"]).as_uri())
    with pytest.raises(UserError, match="invalid hash"):
        perceptual.network("rfid")
    assert not [*tmp_path.rglob("*.pt*")]


def test_a_downloaded_network_is_cached(files, tmp_path, monkeypatch):
    (tmp_path / "rotvq").mkdir()
    kept = tmp_path / "rotvq" / "vgg16.pt"
    kept.write_bytes(Path(files["lpips"]).read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert perceptual.network("lpips") is not None
