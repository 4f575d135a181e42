"""The perceptual loss: how differently a frozen network sees an image and its reconstruction.

Each network maps images to one vector per image, and the loss is the squared distance between the
vectors (Zhang et al. 2018, arXiv 1801.03924, eq. 1).
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.evaluation import perceptual
from rotvq.evaluation.classifier import Classifier, describe_classifier, load_classifier
from rotvq.paths import expanded

EPSILON = 1e-3
"""Added to squared norms, so that the gradient stays small where a network sees nothing."""


class ClassifierEmbedding(nn.Module):
    """Images to the features of each stage of a classifier, of unit length at each position.

    The squared distance of two embeddings is that of LPIPS with all channels weighted alike: the
    mean over stages and positions, 0 to 2.

    Args:
        classifier: the classifier whose stages are used.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.stages = classifier.stages

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Embed images in [-1, 1]; float32."""
        found = []
        for stage in self.stages:
            x = stage(x)
            features = x.float()
            unit = features * (features.square().sum(1, keepdim=True) + EPSILON).rsqrt()
            positions = unit[0, 0].numel()
            found.append(unit.flatten(1) / math.sqrt(positions * len(self.stages)))
        return torch.cat(found, 1)


class VGGEmbedding(nn.Module):
    """Images to the weighted features of VGG16 whose squared distance is LPIPS.

    Args:
        network: the result of `evaluation.perceptual.network("lpips")`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Embed images in [-1, 1]; float32."""
        pixels = (x + 1) * 127.5
        features: Tensor = self.network(pixels, resize_images=False, return_lpips=True)
        return features.float()


def perceptual_loss(
    embedding: nn.Module, x: Float[Tensor, "b c h w"], reconstruction: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean squared distance of embeddings, with a gradient for the reconstruction alone.

    Args:
        embedding: an embedding from this module.
        x: images in [-1, 1]; grayscale ones are embedded as gray RGB images.
        reconstruction: reconstructions in [-1, 1], in any precision.
    """
    with torch.no_grad():
        wanted = embedding(x.expand(-1, 3, -1, -1))
    found = embedding(reconstruction.to(x.dtype).expand(-1, 3, -1, -1))
    return (found - wanted).square().sum(1).mean()


def load_embedding(source: str) -> tuple[nn.Module, dict[str, Any]]:
    """A frozen network for the perceptual loss, on the CPU, and its description for run.json.

    Args:
        source: a folder written by `rotvq classifier`; the file of the network that `rotvq evaluate
            --lpips` uses; or "lpips", which downloads that file.

    Raises:
        UserError: there is no such folder or file, or it is damaged.
    """
    path = expanded(source)
    embedding: nn.Module
    if source == "lpips" or path.is_file():
        file = perceptual.network_file("lpips", "" if source == "lpips" else source)
        embedding = VGGEmbedding(perceptual.network("lpips", str(file)))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        record: dict[str, Any] = {"network": "VGG16 of LPIPS", "weights": digest}
    elif path.is_dir():
        embedding = ClassifierEmbedding(load_classifier(path))
        record = {"network": "classifier", **describe_classifier(path)}
    else:
        raise UserError(
            f"training.perceptual: expected a classifier's folder, the file of an LPIPS network or "
            f'"lpips"; there is no {source}. Train a classifier (a few minutes for CIFAR-10 on 2 '
            f"cores): rotvq classifier --seed 1 --width 24 --out {source}"
        )
    return embedding.eval().requires_grad_(False), {"source": source, **record}
