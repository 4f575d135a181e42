"""Measurements of a trained model besides its evaluation: functions that return JSON records."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from rotvq.data_processing import ImageData
from rotvq.evaluation.classifier import Classifier
from rotvq.evaluation.classifier_metrics import Reference, measure, originals
from rotvq.evaluation.evaluate import evaluate
from rotvq.evaluation.rate_distortion import gaussian_distortion, variances
from rotvq.studies.classifier import obtain, weights_of
from rotvq.studies.milestones import CODEBOOK, milestone
from rotvq.studies.plan import Run
from rotvq.studies.recorder import BEST, codebook_file, read_codebook
from rotvq.training.build import load_model
from rotvq.training.environment import accelerator
from rotvq.training.images import limited, on_device

CLASSIFIER = "classifier"
"""The classifier's folder, in that of all records."""

TSNE_PERPLEXITY, TSNE_LEARNING_RATE, TSNE_ITERATIONS = 30, 200, 1000
"""The paper's parameters (Figures 6 to 8)."""


@dataclass(frozen=True)
class Shared:
    """What the measurements of all runs share.

    Args:
        data: images in memory.
        test_images: number of test images to use; None uses all.
        out: folder of all records, which also holds the classifier.
    """

    data: ImageData
    test_images: int | None
    out: Path

    @cached_property
    def device(self) -> torch.device:
        """The device to measure on."""
        return accelerator()

    @cached_property
    def images(self) -> UInt8[Tensor, "n c h w"]:
        """The test images."""
        return on_device(self.data.test, self.test_images, self.device)

    @cached_property
    def variances(self) -> Float[np.ndarray, " d"]:
        """Of the training images along their principal components."""
        return variances(self.data.train.images)

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier, trained by the first process that needs it."""
        with FileLock(self.out / ".classifier.lock"):
            return obtain(self.data, self.out / CLASSIFIER, self.device)

    @cached_property
    def reference(self) -> Reference:
        """The classifier's predictions and features for the test images."""
        return originals(self.classifier, self.images)


def embed(codes: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """t-SNE of codes (k, d) as points (k, 2), with the paper's parameters.

    Args:
        codes: float32; with 30 codes or fewer, the perplexity is a third of their number.
        seed: of the embedding.
    """
    from sklearn.manifold import TSNE

    # An untrained codebook spans 1/K: t-SNE squares distances, and its search stops below 1e-7.
    scaled = codes / max(float(np.abs(codes).max()), 1e-30)
    return TSNE(
        perplexity=min(TSNE_PERPLEXITY, max(1.0, (len(codes) - 1) / 3)),
        learning_rate=TSNE_LEARNING_RATE,
        max_iter=TSNE_ITERATIONS,
        init="pca",
        random_state=seed,
    ).fit_transform(scaled)


def tsne(run: Run, shared: Shared) -> dict[str, Any]:
    """A t-SNE of the codebook after each of the paper's epochs (Figures 6 to 8)."""
    epochs = []
    for paper_epoch in CODEBOOK:
        epoch = milestone(paper_epoch, run.config.training.epochs)
        e, uses = read_codebook(codebook_file(run.folder, epoch))
        points = embed(e, seed=run.seed).round(4)
        epochs.append({"epoch": epoch, "points": points.tolist(), "uses": uses.tolist()})
    return {"format": 1, "epochs": epochs}


def best(run: Run, shared: Shared) -> dict[str, Any]:
    """The evaluation of the model of the epoch with the lowest test loss.

    It is selected on the split it is evaluated on, so its metrics are slightly optimistic.
    """
    model = load_model(run.folder, BEST).to(shared.device)
    return evaluate(model, shared.images, beta=run.config.training.beta)


def classifier_metrics(run: Run, shared: Shared) -> dict[str, Any]:
    """A classifier's metrics of the reconstructions; empty where the images have no labels."""
    labels = limited(shared.data.test, shared.test_images).labels
    if labels is None:
        return {"format": 1, "metrics": {}, "protocol": {"images": "they have no labels"}}
    model = load_model(run.folder).to(shared.device)
    given = (shared.classifier, shared.reference, shared.images, torch.from_numpy(labels))
    record = measure(model, *given)
    return {**record, "classifier": weights_of(shared.out / CLASSIFIER)}


def bound(run: Run, shared: Shared) -> dict[str, Any]:
    """The rate–distortion bound of a Gaussian like the training images, at the run's bits."""
    model = load_model(run.folder)
    height, width = shared.data.train.images.shape[2:]
    tokens = (height // model.stride) * (width // model.stride)
    bits = tokens * sum(map(math.log2, model.quantizer.codebook_sizes))
    value = gaussian_distortion(shared.variances, bits)
    return {"format": 1, "metrics": {"bits_per_image": bits, "gaussian_distortion": value}}


MEASURES: dict[str, Callable[[Run, Shared], dict[str, Any]]] = {
    "tsne": tsne,
    "best": best,
    "classifier_metrics": classifier_metrics,
    "bound": bound,
}
"""By name; the record of each is NAME.json in the run's folder."""
