"""A prior over the tokens of a trained model: their bits, and how good its samples are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from rotvq import run_folder
from rotvq.evaluation.classifier_metrics import Reference, frechet_distance, originals
from rotvq.evaluation.evaluate import batches, evaluating
from rotvq.evaluation.rate_distortion import gaussian_distortion
from rotvq.generation.config import Sampling
from rotvq.model import VQVAE
from rotvq.studies.classifier import weights_of
from rotvq.studies.curves import GUIDANCE, TEMPERATURES, curve
from rotvq.studies.plan import PRIOR, Run
from rotvq.studies.shared import CLASSIFIER, Shared
from rotvq.training.build import load_model
from rotvq.training.images import limited, on_device

if TYPE_CHECKING:
    from rotvq.generation import Prior
    from rotvq.generation.data import PriorData

_BITS = (
    "bits_per_token",
    "bits_per_image",
    "bits_per_token_without_class",
    "fixed_bits_per_image",
    "entropy_per_token",
)
_PROTOCOL = {
    "prior": "a transformer trained on the tokens of all training images but those held out; its "
    "record, with the protocol of the bits, is in prior/evaluation.json",
    "gaussian_distortion": "rate-distortion bound of a Gaussian source with the covariance of the "
    "training images, at bits_per_image",
    "samples": "as many of each class. The curves compare them with the images held out; the "
    "guidance with the smallest Fréchet distance there is compared with the test split, on samples "
    "of another seed",
    "frechet_distance": "in the features of the project's own classifier; not FID",
    "class_accuracy": "share of the samples that the classifier puts into their class",
}


def generation(run: Run, shared: Shared) -> dict[str, Any]:
    """Train a prior, or continue, and measure its samples; without labels, bits alone.

    Raises:
        Stopped: a signal arrived; the prior's checkpoint is written.
    """
    # Imported late: only this measurement needs transformers.
    from rotvq.generation.trainer import PriorTrainer

    assert run.generation is not None
    model = load_model(run.folder).to(shared.device)
    folder = run.folder / PRIOR
    trainer = PriorTrainer(run.generation.prior, _tokens(model, run, shared), folder, model)
    if run_folder.is_run(folder):
        trainer.resume()
    else:
        trainer.begin(f"the prior of {run.name}")
    found = trainer.run([shared.callback])["metrics"]
    metrics = {name: found[name] for name in _BITS if name in found}
    bound = gaussian_distortion(shared.variances, metrics["bits_per_image"])
    metrics["gaussian_distortion"] = bound
    record = {"format": 1, "protocol": _PROTOCOL, "images": run.generation.samples}
    if shared.data.test.labels is None:
        return record | {"metrics": metrics}
    metrics |= _samples(trainer.eval_model, model, run.generation.samples, shared)
    return record | {"metrics": metrics, CLASSIFIER: weights_of(shared.out / CLASSIFIER)}


def _tokens(model: VQVAE, run: Run, shared: Shared) -> PriorData:
    from rotvq.generation.data import PriorData
    from rotvq.generation.vocabulary import Vocabulary, numbered
    from rotvq.tokens.model_codec import codec

    limits = run.config.data.train_images, run.config.data.test_images
    splits = [
        limited(*pair) for pair in zip((shared.data.train, shared.data.test), limits, strict=True)
    ]
    indices = [np.concatenate([*_indices(model, split.images, shared)]) for split in splits]
    labels = [
        [None] * len(split.images) if split.labels is None else split.labels.tolist()
        for split in splits
    ]
    classes = numbered(max((c for c in labels[0] if c is not None), default=-1) + 1)
    vocabulary = Vocabulary(codec(model), (indices[0].shape[1:3],), classes)
    train, test = (
        vocabulary.sequences(*each).astype(np.int32) for each in zip(indices, labels, strict=True)
    )
    return PriorData(vocabulary, train, test)


@torch.no_grad()
def _indices(model: VQVAE, images: Any, shared: Shared) -> Iterator[Any]:
    with evaluating(model):
        for x in batches(torch.from_numpy(images), 128, model):
            yield model.encode(x).cpu().numpy()


def _samples(prior: Prior, model: VQVAE, number: int, shared: Shared) -> dict[str, float]:
    """Both curves against the images held out, and the best guidance against the test split."""
    held = shared.data.validation or shared.data.test
    reference = originals(shared.classifier, on_device(held, None, shared.device))
    drawn = {("guidance", s): Sampling(guidance=s) for s in GUIDANCE}
    drawn |= {("temperature", t): Sampling(temperature=t) for t in TEMPERATURES}
    metrics = {}
    for option, sampling in drawn.items():
        for name, value in _point(prior, model, number, sampling, reference, shared).items():
            metrics[curve(name, *option)] = value
    best = min(GUIDANCE, key=lambda s: metrics[curve("frechet_distance", "guidance", s)])
    final = Sampling(guidance=best, seed=1)
    point = _point(prior, model, number, final, shared.reference, shared)
    return metrics | {"guidance": best} | point


def _point(
    prior: Prior,
    model: VQVAE,
    number: int,
    sampling: Sampling,
    reference: Reference,
    shared: Shared,
) -> dict[str, float]:
    labels = [i % len(prior.vocabulary.classes) for i in range(number)]
    images = _draw(prior, model, labels, sampling).to(shared.device)
    seen = originals(shared.classifier, images)
    right = seen.predicted == torch.tensor(labels)
    return {
        "frechet_distance": frechet_distance(reference.features, seen.features),
        "class_accuracy": right.double().mean().item(),
    }


def _draw(
    prior: Prior, model: VQVAE, labels: list[int], sampling: Sampling
) -> UInt8[Tensor, "n c h w"]:
    from rotvq.generation import sample
    from rotvq.tokens.coding import decode

    pixels = [each for _, each in decode(model, sample(prior, labels, sampling))]
    return torch.from_numpy(np.stack(pixels))
