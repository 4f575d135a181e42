"""The perceptual loss, against its definition written out, and what it can be loaded from."""

from __future__ import annotations

import hashlib
import warnings

import pytest
import torch
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.evaluation.classifier import Classifier, save_classifier
from rotvq.training.perceptual import (
    EPSILON,
    ClassifierEmbedding,
    VGGEmbedding,
    load_embedding,
    perceptual_loss,
)


class Vgg(nn.Module):
    """The pixels themselves, as the network of LPIPS is called."""

    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips and not resize_images
        return x.flatten(1) / 255


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return Classifier(3, (6, 4)).eval()


@pytest.fixture(scope="module")
def pair():
    draw = torch.Generator().manual_seed(1)
    return [torch.rand(3, 3, 8, 12, generator=draw) * 2 - 1 for _ in range(2)]


@torch.no_grad()
def by_hand(classifier, a, b):
    """LPIPS without weights: mean over stages, positions and images, in float64."""
    found = []
    for stage in classifier.stages:
        a, b = stage(a), stage(b)
        one, other = (
            t.double() / (t.double().pow(2).sum(1, keepdim=True) + EPSILON).sqrt() for t in (a, b)
        )
        found.append((one - other).pow(2).sum(1).mean())
    return sum(found) / len(found)


def test_it_is_the_mean_squared_distance_of_unit_features(classifier, pair):
    loss = perceptual_loss(ClassifierEmbedding(classifier), *pair)
    torch.testing.assert_close(loss.double(), by_hand(classifier, *pair), rtol=1e-5, atol=0)
    assert 0.01 < loss < 2
    assert perceptual_loss(ClassifierEmbedding(classifier), pair[0], pair[0]) == 0


def test_only_the_reconstruction_has_a_gradient(classifier, pair):
    x, reconstruction = (t.clone().requires_grad_() for t in pair)
    embedding = ClassifierEmbedding(classifier).requires_grad_(False)
    perceptual_loss(embedding, x, reconstruction).backward()
    assert x.grad is None
    assert reconstruction.grad.abs().max() > 0


def test_the_gradient_is_finite_where_the_network_sees_nothing(classifier):
    blind = Classifier(3, (6, 4)).eval()
    with torch.no_grad():
        for p in blind.parameters():
            p.zero_()
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    perceptual_loss(ClassifierEmbedding(blind), torch.ones(1, 3, 8, 8), x).backward()
    assert x.grad.isfinite().all()


def test_gray_images_are_seen_in_three_channels(pair):
    gray = [t[:, :1] for t in pair]
    expected = (gray[0] - gray[1]).square().sum((1, 2, 3)).mean() * 3 / 4
    torch.testing.assert_close(perceptual_loss(VGGEmbedding(Vgg()), *gray), expected)


def test_a_folder_gives_the_frozen_stages_of_its_classifier(classifier, pair, tmp_path):
    save_classifier(tmp_path, classifier, {"seed": 7})
    embedding, record = load_embedding(str(tmp_path))
    assert not any(p.requires_grad for p in embedding.parameters())
    assert not embedding.training
    loss = perceptual_loss(embedding, *pair)
    torch.testing.assert_close(loss.double(), by_hand(classifier, *pair), rtol=1e-5, atol=0)
    weights = hashlib.sha256((tmp_path / "classifier.safetensors").read_bytes()).hexdigest()
    assert record == {
        "source": str(tmp_path), "network": "classifier", "weights": weights, "widths": [6, 4],
        "seed": 7,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_gives_the_network_of_lpips(pair, tmp_path):
    path = tmp_path / "vgg.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Vgg()).save(path)
    embedding, record = load_embedding(str(path))
    expected = (pair[0] - pair[1]).square().sum((1, 2, 3)).mean() / 4
    torch.testing.assert_close(perceptual_loss(embedding, *pair), expected)
    assert record["weights"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_network_says_how_to_train_one(tmp_path):
    missing = str(tmp_path / "none")
    with pytest.raises(UserError, match=rf"rotvq classifier --seed 1 --width 24 --out {missing}"):
        load_embedding(missing)
    with pytest.raises(UserError, match=r"expected classifier\.safetensors"):
        load_embedding(str(tmp_path))
