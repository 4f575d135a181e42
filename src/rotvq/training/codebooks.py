"""The codebooks of a model during training: initialization from data, and health."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rotvq.evaluation.pixels import normalized
from rotvq.model import VQVAE
from rotvq.quantization import health
from rotvq.training.samples import Samples

VECTORS_PER_CODE = 2
"""Latent vectors per code that k-means uses, if there are enough images."""


def images_to_start_from(model: VQVAE, samples: Samples, batch_size: int) -> int:
    """How many images to initialize the codes from: a batch, or more if it has too few vectors."""
    tokens = samples.sides[0] // model.stride * (samples.sides[1] // model.stride)
    return max(batch_size, -(-VECTORS_PER_CODE * model.quantizer.codebook_size // tokens))


@torch.no_grad()
def place_codes(
    model: VQVAE,
    images: Tensor,
    micro_batch_size: int,
    accelerator: Accelerator,
    autocast: Callable[[], torch.autocast],
) -> None:
    """Initialize the codes by k-means over the latents of some images (`init: data`).

    All processes see the same images, and the codebook counts those of the main one, so any
    number of processes starts from the same codes.

    Args:
        model: a model whose codebooks are not ready yet.
        images: uint8, on the device.
        micro_batch_size: images per forward pass.
        accelerator: this process's accelerator.
        autocast: the precision of the network.
    """
    with autocast():
        parts = images.split(micro_batch_size)
        z = torch.cat([model.encoder(normalized(part)) for part in parts])
    counts = z.new_full(z[:, 0].shape, accelerator.is_main_process, dtype=torch.bool)
    model.quantizer.initialize_codebook(z, counts)


def health_of(model: VQVAE) -> dict[str, Any]:
    """The health of the codebooks for an epoch's record; empty without a learned codebook.

    For several codebooks: the sum of the dead codes, the greatest age, and means of the rest.
    """
    found = [health(codebook) for codebook in model.quantizer.codebooks]
    if not found:
        return {}
    if len(found) == 1:
        return found[0]._asdict()
    return {
        "dead": sum(each.dead for each in found),
        "oldest": max(each.oldest for each in found),
        "perplexity": sum(each.perplexity for each in found) / len(found),
        "spread": tuple(
            sum(values) / len(found)
            for values in zip(*(each.spread for each in found), strict=True)
        ),
    }
