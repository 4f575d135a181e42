"""How good samples are: Fréchet distances, classes, and whether they are copies; as one record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.evaluation.classifier import Classifier
from rotvq.evaluation.classifier_metrics import frechet_distance, originals
from rotvq.evaluation.perceptual import inception_distance
from rotvq.generation.pictures import save_grid

FORMAT = 1
SHOWN = 16
"""Samples whose nearest training images are looked for."""

PROTOCOL = {
    "images": "samples decoded by the model of their tokens, rounded to 8 bits, at their own size; "
    "every image of the reference split, once",
    "classifier_frechet_distance": "between Gaussians fitted to the features of the samples and of "
    "the reference split, by the project's own classifier; not FID, and not comparable with "
    "published distances. It depends on the number of samples",
    "class_accuracy": "share of the samples that the project's classifier puts into the class they "
    "were drawn for",
    "gfid": "Fréchet distance of Inception features (2048, TensorFlow's weights of 2015-12-05), "
    "samples against the reference split; depends on the number of images, so that published "
    "distances of 50,000 samples compare with those of 50,000 samples alone",
    "nearest": f"of the first {SHOWN} samples, the root mean squared difference on [-1, 1] to the "
    "nearest training image, and the Euclidean distance to the nearest one in the classifier's "
    "features, means over samples; `nearest_original` is the same of as many images of the "
    "reference split, spread evenly over it. Copies of training images would be much nearer than "
    "these",
}


def measure(
    samples: UInt8[Tensor, "n 3 h w"],
    labels: Int64[Tensor, " n"] | None,
    reference: UInt8[Tensor, "m 3 h w"],
    train: UInt8[Tensor, "k 3 h w"],
    classifier: Classifier,
    *,
    split: str = "test",
    inception: nn.Module | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> dict[str, Any]:
    """Measure samples, as a record with its protocol.

    Args:
        samples: at least 2.
        labels: the class that each was drawn for; None for unconditional samples.
        reference: images to compare with, which the prior was not trained on.
        train: the training images of tokenizer and prior, for `nearest`; of the samples' size.
        classifier: trained on originals, on the CPU as all images.
        split: name of the reference, for the record.
        inception: network of the gFID (`rotvq.evaluation.perceptual.network`); None to leave it
            out.
        progress: called after each batch with its number of images.

    Raises:
        UserError: fewer than 2 samples or images, or other sizes.
    """
    since = time.perf_counter()
    if min(len(samples), len(reference)) < 2:
        raise UserError(
            f"samples: expected 2 or more, and as many images to compare with; got {len(samples)} "
            f"and {len(reference)}."
        )
    if samples.shape[1:] != train.shape[1:]:
        raise UserError(
            f"data: expected images of the samples' size {tuple(samples.shape[1:])}; got "
            f"{tuple(train.shape[1:])}. Pass the images that the model was trained on."
        )
    ours, theirs, seen = (
        originals(classifier, images, progress=progress) for images in (samples, reference, train)
    )
    metrics = {"classifier_frechet_distance": frechet_distance(theirs.features, ours.features)}
    if labels is not None:
        metrics["class_accuracy"] = (ours.predicted == labels).double().mean().item()
    if inception is not None:
        metrics["gfid"] = _gfid(inception, reference, samples)
    spread = torch.linspace(0, len(reference) - 1, min(SHOWN, len(reference))).long()
    closest: dict[str, tuple[list[int], list[int]]] = {}
    for name, images, features in (
        ("nearest", samples[:SHOWN], ours.features[:SHOWN]),
        ("nearest_original", reference[spread], theirs.features[spread]),
    ):
        by_pixels, pixels_apart = nearest_pixels(images, train)
        features_apart, by_features = torch.cdist(features, seen.features).min(1)
        metrics[f"{name}_pixels"] = pixels_apart.mean().item()
        metrics[f"{name}_features"] = features_apart.mean().item()
        closest[name] = by_pixels.tolist(), by_features.tolist()
    protocol = {
        key: text
        for key, text in PROTOCOL.items()
        if key in metrics or key in ("images", "nearest")
    }
    return {
        "format": FORMAT,
        "samples": len(samples),
        "reference": {"split": split, "images": len(reference)},
        "metrics": metrics,
        "protocol": protocol,
        "nearest_by_pixels": closest["nearest"][0],
        "nearest_by_features": closest["nearest"][1],
        "seconds": round(time.perf_counter() - since, 2),
    }


def nearest_pixels(
    images: UInt8[Tensor, "n c h w"], train: UInt8[Tensor, "k c h w"], part: int = 2048
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """The nearest training image of each image, and the root mean squared difference on [-1, 1].

    Args:
        images: to look for.
        train: to look in.
        part: training images at a time.
    """
    flat = images.flatten(1).float() / 127.5
    best = torch.full((len(images),), torch.inf)
    which = torch.zeros(len(images), dtype=torch.int64)
    for start in range(0, len(train), part):
        some = train[start : start + part].flatten(1).float() / 127.5
        # Exact differences: with expanded squares, an equal image would not be at 0.
        distance, index = torch.cdist(flat, some, compute_mode="donot_use_mm_for_euclid_dist").min(
            1
        )
        closer = distance < best
        best, which = torch.where(closer, distance, best), torch.where(closer, index + start, which)
    return which, best / flat.shape[1] ** 0.5


@torch.no_grad()
def _gfid(
    net: nn.Module, reference: UInt8[Tensor, "m 3 h w"], samples: UInt8[Tensor, "n 3 h w"]
) -> float:
    distance = inception_distance(net)
    for images, real in ((reference, True), (samples, False)):
        for some in images.split(128):
            distance.update(some, real=real)
    return float(distance.compute())


def save_nearest(
    path: Path,
    record: Mapping[str, Any],
    samples: UInt8[Tensor, "n c h w"],
    train: UInt8[Tensor, "k c h w"],
) -> None:
    """Write a PNG: samples, below each its nearest training image by pixels, and by features.

    Args:
        path: of the PNG.
        record: of `measure`.
        samples: measured.
        train: as for `measure`.
    """
    nearest = [train[record[f"nearest_by_{what}"]] for what in ("pixels", "features")]
    shown = len(nearest[0])
    save_grid(path, [*torch.cat([samples[:shown], *nearest]).numpy()], shown)
