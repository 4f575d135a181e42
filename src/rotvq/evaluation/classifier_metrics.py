"""Classifier metrics of reconstructions: accuracy, agreement and a Fréchet distance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from rotvq.errors import UserError
from rotvq.evaluation.classifier import Classifier
from rotvq.evaluation.evaluate import batches, evaluating
from rotvq.model import VQVAE

FORMAT = 1
PROTOCOL = {
    "images": "every image of the split, once, in order, at its own size, decoded from its "
    "indices alone; the decoder's output is neither rounded nor clipped",
    "precision": "model and classifier in float32 and in evaluation mode; nothing in them changes",
    "classifier": "the project's own, trained on original images of the training split only",
    "accuracy_original": "share of the original images whose label the classifier predicts",
    "accuracy_reconstruction": "the same share of the reconstructions",
    "agreement": "share of the images whose original and reconstruction get the same prediction, "
    "right or wrong",
    "frechet_distance": "between Gaussians fitted to the features of originals and of "
    "reconstructions, in float64. The features are those of the project's own classifier, so "
    "this is not FID: it compares models measured with the same classifier and is not "
    "comparable with published distances",
}


class Reference(NamedTuple):
    """The classifier's outputs for the original images, computed once for many models.

    Attributes:
        features: float32, on the CPU.
        predicted: classes, on the CPU.
    """

    features: Float[Tensor, "n f"]
    predicted: Int64[Tensor, " n"]


def frechet_distance(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features.

    ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), with covariances over n − 1 (Dowson & Landau
    1982; Heusel et al. 2017, eq. 6); in float64, by torchmetrics.

    Args:
        a: features, any finite values; fewer rows than columns are allowed, at least 2.
        b: features with the same number of columns.

    Returns:
        0 or more, in squared units of the features.

    Raises:
        UserError: fewer than 2 rows.
    """
    if min(len(a), len(b)) < 2:
        raise UserError(f"features: expected 2 rows or more in both; got {len(a)} and {len(b)}.")
    distance = FrechetInceptionDistance(feature=_Given(a.shape[1]), normalize=False)
    # A covariance from sums of squares loses digits far from zero; a common shift does not matter.
    center = a.double().mean(0)
    distance.update(a.double().cpu() - center.cpu(), real=True)
    distance.update(b.double().cpu() - center.cpu(), real=False)
    # Rounding can give equal sets a slightly negative distance.
    return max(0.0, distance.compute().item())


def originals(
    classifier: Classifier,
    images: UInt8[Tensor, "n 3 h w"],
    *,
    batch_size: int = 256,
    progress: Callable[[int], object] = lambda images: None,
) -> Reference:
    """The classifier's features and predictions of original images.

    Args:
        classifier: put in evaluation mode during the call.
        images: uint8, on any device.
        batch_size: images per batch.
        progress: called after each batch with its number of images.
    """
    return _seen(classifier, batches(images, batch_size, classifier), progress)


def measure(
    model: VQVAE,
    classifier: Classifier,
    reference: Reference,
    images: UInt8[Tensor, "n 3 h w"],
    labels: Int64[Tensor, " n"],
    *,
    batch_size: int = 256,
    progress: Callable[[int], object] = lambda images: None,
) -> dict[str, Any]:
    """Accuracy, agreement and Fréchet distance of a model's reconstructions, as a record.

    Args:
        model: put in evaluation mode during the call.
        classifier: put in evaluation mode too.
        reference: `originals` of the same classifier and images.
        images: uint8, at least 2, on any device.
        labels: int64, true classes.
        batch_size: images per batch.
        progress: called after each batch with its number of images.

    Raises:
        UserError: fewer than 2 images, or labels or a reference of another number of images.
    """
    started = time.perf_counter()
    if len(images) < 2 or {len(labels), len(reference.predicted)} != {len(images)}:
        raise UserError(
            "images: expected 2 or more, with as many labels and originals; got "
            f"{len(images)}, {len(labels)} and {len(reference.predicted)}."
        )
    with evaluating(model):
        each = batches(images, batch_size, model)
        decoded = (model.decode(model.encode(x)).float() for x in each)
        ours = _seen(classifier, decoded, progress)
    return {
        "format": FORMAT,
        "images": len(images),
        "metrics": _metrics(reference, ours, labels.cpu()),
        "protocol": PROTOCOL,
        "seconds": round(time.perf_counter() - started, 2),
    }


class ClassifierMetrics:
    """The same metrics, accumulated batch by batch.

    Args:
        classifier: in evaluation mode, on the CPU.
        labels: int64, true classes of the images to come, in order; None leaves out the accuracies.

    Raises:
        UserError: fewer than 2 labels.
    """

    def __init__(self, classifier: Classifier, labels: Int64[Tensor, " n"] | None) -> None:
        if labels is not None and len(labels) < 2:
            raise UserError("images: expected 2 or more; got 1. Use a larger split.")
        self._classifier, self._labels = classifier, labels
        self._seen: list[tuple[Reference, Reference]] = []

    @property
    def has_labels(self) -> bool:
        """Whether accuracies are among the metrics."""
        return self._labels is not None

    def add(self, x: Float[Tensor, "b c h w"], reconstruction: Float[Tensor, "b c h w"]) -> None:
        """Add images and their reconstructions, both in [-1, 1]."""
        original, ours = (
            _seen(self._classifier, [each.float().cpu()], lambda n: None)
            for each in (x, reconstruction)
        )
        self._seen.append((original, ours))

    def compute(self) -> dict[str, float]:
        """The metrics by name."""
        original, ours = (
            Reference(*(torch.cat(each) for each in zip(*side, strict=True)))
            for side in zip(*self._seen, strict=True)
        )
        return _metrics(original, ours, self._labels)


def _metrics(
    reference: Reference, ours: Reference, labels: Int64[Tensor, " n"] | None
) -> dict[str, float]:
    found = {
        "agreement": _share(ours.predicted, reference.predicted),
        "frechet_distance": frechet_distance(reference.features, ours.features),
    }
    if labels is None:
        return found
    return {
        "accuracy_original": _share(reference.predicted, labels),
        "accuracy_reconstruction": _share(ours.predicted, labels),
        **found,
    }


@torch.no_grad()
def _seen(
    classifier: Classifier, parts: Iterable[Tensor], progress: Callable[[int], object]
) -> Reference:
    features: list[Tensor] = []
    predicted: list[Tensor] = []
    with evaluating(classifier):
        for x in parts:
            features.append(classifier.features(x))
            predicted.append(classifier.head(features[-1]).argmax(1))
            progress(len(x))
    return Reference(torch.cat(features).cpu(), torch.cat(predicted).cpu())


def _share(a: Tensor, b: Tensor) -> float:
    return (a == b).double().mean().item()


class _Given(nn.Module):
    """Stands in for torchmetrics' network, because the features are already computed."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
