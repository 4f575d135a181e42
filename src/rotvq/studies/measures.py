"""Measurements of a trained model besides its evaluation: functions that return JSON records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rotvq.evaluation.classifier_metrics import measure
from rotvq.evaluation.evaluate import evaluate
from rotvq.evaluation.rate_distortion import gaussian_distortion
from rotvq.model.levels import number_of_bits
from rotvq.studies.classifier import weights_of
from rotvq.studies.generation import generation
from rotvq.studies.milestones import CODEBOOK, milestone
from rotvq.studies.plan import Run
from rotvq.studies.recorder import BEST, codebook_file, read_codebook
from rotvq.studies.shared import CLASSIFIER, Shared
from rotvq.training.build import load_model
from rotvq.training.images import limited

TSNE_PERPLEXITY, TSNE_LEARNING_RATE, TSNE_ITERATIONS = 30, 200, 1000
"""The paper's parameters (Figures 6 to 8)."""


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
    bits = number_of_bits(model.quantizer, (height // model.stride, width // model.stride))
    value = gaussian_distortion(shared.variances, bits)
    return {"format": 1, "metrics": {"bits_per_image": bits, "gaussian_distortion": value}}


MEASURES: dict[str, Callable[[Run, Shared], dict[str, Any]]] = {
    "tsne": tsne,
    "best": best,
    "classifier_metrics": classifier_metrics,
    "bound": bound,
    "generation": generation,
}
"""By name; the record of each is NAME.json in the run's folder."""
