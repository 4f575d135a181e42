"""What the measurements of all runs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, UInt8
from torch import Tensor

from rotvq.data_processing import ImageData
from rotvq.evaluation.classifier import Classifier
from rotvq.evaluation.classifier_metrics import Reference, originals
from rotvq.evaluation.rate_distortion import variances
from rotvq.studies.classifier import obtain
from rotvq.training.callbacks import Callback
from rotvq.training.environment import default_device
from rotvq.training.images import on_device

CLASSIFIER = "classifier"
"""The classifier's folder, in that of all records."""


@dataclass(frozen=True)
class Shared:
    """Data, and what is derived from it once.

    Args:
        data: images in memory.
        test_images: number of test images to use; None uses all.
        out: folder of all records, which also holds the classifier.
        callback: follows the training of priors.
    """

    data: ImageData
    test_images: int | None
    out: Path
    callback: Callback = field(default_factory=Callback)

    @cached_property
    def device(self) -> torch.device:
        """The device to measure on."""
        return default_device()

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
