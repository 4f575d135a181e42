"""The classifier of a folder: trained once, then shared by all measurements."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rotvq import __version__
from rotvq.data_processing import ImageData
from rotvq.errors import UserError
from rotvq.evaluation.classifier import (
    RECORD,
    WIDTHS,
    Classifier,
    accuracy,
    load_classifier,
    save_classifier,
    train_classifier,
)
from rotvq.guarded import mapping, read_json
from rotvq.training import environment
from rotvq.training.images import on_device

EPOCHS = 8
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def images_to_see(data: ImageData) -> int:
    """Number of images that training processes, over all epochs."""
    return EPOCHS * len(data.train.images)


def obtain(
    data: ImageData,
    folder: Path,
    device: torch.device,
    *,
    seed: int = 0,
    width: int = WIDTHS[0],
    progress: Callable[[int], object] = lambda images: None,
) -> Classifier:
    """The classifier of a folder, in evaluation mode on the device; trained first if missing.

    It is trained on all training images, and its accuracy on all test images goes into its record,
    `classifier.json`.

    Args:
        data: images with labels.
        folder: created if missing.
        device: to train and use it on.
        seed: of the training.
        width: channels of the first stage; each further stage doubles them.
        progress: called after each step with its number of images.

    Raises:
        UserError: the images have no labels, or the classifier was trained on other images.
    """
    fingerprint = data.train.fingerprint()
    if (folder / RECORD).exists():
        classifier = load_classifier(folder)
        before = _record(folder).get("train_fingerprint")
        if before != fingerprint:
            raise UserError(
                f"{folder}: expected a classifier trained on these images ({fingerprint}); got one "
                f"trained on others ({before}). Remove it to train another."
            )
        return classifier.to(device)
    if data.train.labels is None or data.test.labels is None:
        raise UserError(
            f"{data.name}: expected images with labels; got none. Sort them into a subfolder for "
            "each class, or choose other images."
        )
    labels, test_labels = (
        torch.from_numpy(split.labels).to(device) for split in (data.train, data.test)
    )
    images, test = (on_device(split, None, device) for split in (data.train, data.test))
    precision = environment.resolve_precision("auto", device)
    started = time.perf_counter()
    classifier = train_classifier(
        images,
        labels,
        seed=seed,
        epochs=EPOCHS,
        widths=[width * 2**stage for stage in range(len(WIDTHS))],
        precision=_DTYPES[precision],
        device=device,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    record = {
        "rotvq": __version__,
        "versions": environment.versions(),
        "hardware": environment.hardware(device),
        "precision": precision,
        "git": environment.git_state(),
        "data": data.name,
        "train_images": len(images),
        "train_fingerprint": fingerprint,
        "test_images": len(test),
        "seed": seed,
        "epochs": EPOCHS,
        "accuracy": accuracy(classifier, test, test_labels),
        "seconds": round(seconds, 1),
        "class_names": list(data.classes),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_classifier(folder, classifier, record)
    return classifier


def weights_of(folder: Path) -> str:
    """SHA-256 of the weights of a folder's classifier, which identifies it in records."""
    return str(_record(folder).get("weights"))


def _record(folder: Path) -> dict[str, Any]:
    return dict(mapping(read_json(folder / RECORD), str(folder / RECORD)))
