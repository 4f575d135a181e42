"""What is measured of a trained model besides its evaluation: each a function to a JSON record."""

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
from torch import Tensor

from rotvq.data_processing import ImageData
from rotvq.evaluation.classifier import Classifier
from rotvq.evaluation.classifier_metrics import Reference, measure, originals
from rotvq.evaluation.evaluate import evaluate
from rotvq.evaluation.rate_distortion import gaussian_distortion, variances
from rotvq.studies.classifier import obtain, weights_of
from rotvq.studies.embedding import embed
from rotvq.studies.gradients import BEST, codebook_file, read_codebook
from rotvq.studies.milestones import CODEBOOK, milestone
from rotvq.studies.plan import Run
from rotvq.training.build import load_model
from rotvq.training.environment import accelerator
from rotvq.training.images import limited, on_device

CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Bench:
    """What the measurements of all runs share.

    Args:
        data: images in memory.
        test_images: how many of the test split; None is all.
        out: folder of all records; the classifier lies there.
    """

    data: ImageData
    test_images: int | None
    out: Path

    @cached_property
    def device(self) -> torch.device:
        """Where to measure."""
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
        """The classifier, trained by the first process that asks for it."""
        with FileLock(self.out / ".classifier.lock"):
            return obtain(self.data, self.out / CLASSIFIER, self.device)

    @cached_property
    def reference(self) -> Reference:
        """What the classifier makes of the test images."""
        return originals(self.classifier, self.images)


def tsne(run: Run, bench: Bench) -> dict[str, Any]:
    """The codebook in two dimensions after each of the paper's epochs (Figures 6 to 8)."""
    epochs = []
    for paper_epoch in CODEBOOK:
        epoch = milestone(paper_epoch, run.config.training.epochs)
        e, uses = read_codebook(codebook_file(run.folder, epoch))
        points = embed(e, seed=run.seed).round(4)
        epochs.append({"epoch": epoch, "points": points.tolist(), "uses": uses.tolist()})
    return {"format": 1, "epochs": epochs}


def best(run: Run, bench: Bench) -> dict[str, Any]:
    """The evaluation of the model whose test loss was the lowest of all epochs.

    It is chosen by the split that it is measured on, so its number is a little too good.
    """
    model = load_model(run.folder, BEST).to(bench.device)
    return evaluate(model, bench.images, beta=run.config.training.beta)


def yardstick(run: Run, bench: Bench) -> dict[str, Any]:
    """What a classifier makes of the reconstructions; nothing where the images have no labels."""
    labels = limited(bench.data.test, bench.test_images).labels
    if labels is None:
        return {"format": 1, "metrics": {}, "protocol": {"images": "they have no labels"}}
    model = load_model(run.folder).to(bench.device)
    given = (bench.classifier, bench.reference, bench.images, torch.from_numpy(labels))
    record = measure(model, *given)
    return {**record, "classifier": weights_of(bench.out / CLASSIFIER)}


def bound(run: Run, bench: Bench) -> dict[str, Any]:
    """The least error of a Gaussian source like the training images, at the bits of the run."""
    model = load_model(run.folder)
    height, width = bench.data.train.images.shape[2:]
    tokens = (height // model.stride) * (width // model.stride)
    bits = tokens * sum(map(math.log2, model.quantizer.codebook_sizes))
    value = gaussian_distortion(bench.variances, bits)
    return {"format": 1, "metrics": {"bits_per_image": bits, "gaussian_distortion": value}}


MEASURES: dict[str, Callable[[Run, Bench], dict[str, Any]]] = {
    "tsne": tsne,
    "best": best,
    "yardstick": yardstick,
    "bound": bound,
}
"""By name; the record of each is NAME.json in the run's folder."""
