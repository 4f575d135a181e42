"""The bits that tokens take under a prior, over a whole split, with the protocol in words."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from rotvq import run_folder
from rotvq.evaluation.evaluate import evaluating
from rotvq.generation.prior import Prior
from rotvq.generation.totals import Means, Totals
from rotvq.generation.vocabulary import PREFIX, Vocabulary

PROTOCOL = {
    "images": "every image of the split, once, in order",
    "precision": "float32, the prior in evaluation mode",
    "bits_per_token": "negative log2-likelihood of the tokens of the split over their number, the "
    "class and the grid of each image given: the rate of an ideal entropy coder with this prior. "
    "No coder is built: it is a code length, not the size of a file",
    "bits_per_image": "the same over the number of images, the mean rate; fixed_bits_per_image is "
    "what a token file takes before it is padded to bytes: log2 of the codebook size, rounded up, "
    "for each index",
    "without_class": "the same with no class given",
    "entropy_per_token": "entropy of code use on the split, summed over the indices of a token, or "
    "averaged over the scales of its tokens: the rate of a coder that knows how often each code "
    "occurs, and nothing else",
}


@torch.no_grad()
def bits(
    prior: Prior,
    sequences: Int[Tensor, "n t"],
    batch_size: int = 256,
    progress: Callable[[int], object] = lambda images: None,
) -> Means:
    """The mean code length of images under a prior, in float32.

    Args:
        prior: on any device; in evaluation mode during the call.
        sequences: of its vocabulary, padded with -1.
        batch_size: images at a time.
        progress: called after each batch with its number of images.
    """
    device = next(prior.parameters()).device
    totals = Totals(prior.vocabulary.indices_of_token, device)
    with evaluating(prior):
        for some in sequences.split(batch_size):
            some = trimmed(some).to(device).long()
            totals.add(prior(some), some[:, PREFIX:] >= 0)
            progress(len(some))
    return totals.means()


def trimmed(sequences: Int[Tensor, "n t"]) -> Int[Tensor, "n l"]:
    """Sequences on the CPU without the columns in which all of them are padded."""
    return sequences[:, : int((sequences >= 0).any(0).sum())]


def without_class(vocabulary: Vocabulary, sequences: Int[Tensor, "n t"]) -> Int[Tensor, "n t"]:
    """The sequences, with no class given."""
    sequences = sequences.clone()
    sequences[:, 0] = vocabulary.no_class
    return sequences


def evaluate(
    prior: Prior,
    sequences: Int[Tensor, "n t"],
    split: str = "test",
    progress: Callable[[int], object] = lambda images: None,
    *,
    batch_size: int = 256,
) -> dict[str, Any]:
    """The bits of a split under a prior, as a record.

    Args:
        prior: on any device; in evaluation mode during the call.
        sequences: of its vocabulary, padded with -1.
        split: name of the split, for the record.
        progress: called after each batch with its number of images; with classes, each image
            counts twice.
        batch_size: images at a time.
    """
    since, vocabulary = time.perf_counter(), prior.vocabulary
    given = bits(prior, sequences, batch_size, progress)
    protocol = dict(PROTOCOL)
    metrics = {
        "bits_per_token": given.bits_per_token,
        "bits_per_image": given.bits_per_image,
        "fixed_bits_per_token": float(vocabulary.codec.bits),
        "fixed_bits_per_image": _fixed(vocabulary, sequences),
        "entropy_per_token": _entropy(vocabulary, sequences),
    }
    if vocabulary.classes:
        free = bits(prior, without_class(vocabulary, sequences), batch_size, progress)
        metrics["bits_per_token_without_class"] = free.bits_per_token
        metrics["bits_per_image_without_class"] = free.bits_per_image
    else:
        del protocol["without_class"]
    return {
        "format": run_folder.FORMAT,
        "split": split,
        "images": len(sequences),
        "metrics": metrics,
        "protocol": protocol,
        "seconds": round(time.perf_counter() - since, 2),
    }


def _fixed(vocabulary: Vocabulary, sequences: Int[Tensor, "n t"]) -> float:
    """Bits of an image in a token file, the mean over images."""
    indices = (sequences[:, PREFIX:] >= 0).sum().item()
    return indices / vocabulary.indices_of_token * vocabulary.codec.bits / len(sequences)


def _entropy(vocabulary: Vocabulary, sequences: Int[Tensor, "n t"]) -> float:
    """Entropy of code use in bits per token: of each codebook, weighted by its indices."""
    counts: list[Counter[int]] = [Counter() for _ in range(math.prod(vocabulary.codec.index_shape))]
    for grid in vocabulary.grids:
        own = sequences[sequences[:, 1] == vocabulary.of_grid(grid)]
        if not len(own):
            continue
        indices = vocabulary.indices(own[:, : PREFIX + vocabulary.length(grid)].cpu().numpy(), grid)
        for each, column in zip(counts, indices.reshape(-1, len(counts)).T, strict=True):
            each.update(column[column >= 0].tolist())
    bits = -sum(n * math.log2(n / each.total()) for each in counts for n in each.values())
    return bits * vocabulary.indices_of_token / sum(each.total() for each in counts)
