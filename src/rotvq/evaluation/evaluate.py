"""Evaluation of a model over a whole split, with its protocol in words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.evaluation.metrics import Totals, psnr
from rotvq.evaluation.pixels import normalized
from rotvq.model import VQVAE

PROTOCOL = {
    "images": "every image of the split, once, in order, at its own size",
    "range": "pixels x/127.5 - 1 in [-1, 1]; the decoder's output is neither rounded nor clipped",
    "precision": "float32 throughout, the model in evaluation mode; nothing in it changes",
    "mse": "mean squared error on [-1, 1] of images decoded from their indices alone",
    "forward_mse": "the same of the forward pass; differs from mse where the quantizer's output "
    "is not a code (the released reflection)",
    "psnr": "10 log10(4 / mse) of the split's mse, in dB; psnr_per_image is the mean of each "
    "image's own, up to 100 dB each",
    "ssim": "on [0, 1] with data range 1: torchmetrics, Gaussian window of 11x11 with sigma 1.5, "
    "borders mirrored, mean over pixels, channels and images",
    "perplexity": "exp of the entropy of code use, counted over all tokens of the split",
    "usage": "share of the codes used at least once in the split",
    "losses": "means over elements; loss = forward_mse + codebook + beta * commitment",
    "relative_error": "commitment loss over the variance of z_e within each channel",
    "bits": "tokens an image times log2 of the codebook size, as a fixed-length code",
}


def batches(images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The images in order, normalized, a batch at a time."""
    for part in images.split(batch_size):
        yield normalized(part)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and true float32 convolutions (no TF32) while entered."""
    training = model.training
    model.eval()
    try:
        with torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled,
            benchmark=torch.backends.cudnn.benchmark,
            deterministic=torch.backends.cudnn.deterministic,
            allow_tf32=False,
        ):
            yield
    finally:
        model.train(training)


@torch.no_grad()
def totals_over(model: VQVAE, images: UInt8[Tensor, "n c h w"], batch_size: int) -> Totals:
    """Losses and code use of the forward pass over images, the model in evaluation mode."""
    totals = Totals(model.quantizer.codebook.embeddings.shape, images.device)
    with evaluating(model):
        for x in batches(images, batch_size):
            totals.add(model(x))
    return totals


@torch.no_grad()
def evaluate(
    model: VQVAE,
    images: UInt8[Tensor, "n c h w"],
    *,
    beta: float,
    split: str = "test",
    batch_size: int = 128,
    progress: Callable[[int], object] = lambda images: None,
) -> dict[str, Any]:
    """Every metric over a split, as the record `evaluation.json`.

    Args:
        model: put into evaluation mode for the time of the call.
        images: uint8, on the model's device.
        beta: weight of the commitment loss in `loss`.
        split: the split's name in the record.
        batch_size: images at a time.
        progress: told after each batch how many images it had.

    Raises:
        UserError: a loss is not finite, as images or weights are not.
    """
    started = time.perf_counter()
    totals = Totals(model.quantizer.codebook.embeddings.shape, images.device)
    errors: list[Tensor] = []
    similarities: list[Tensor] = []
    with evaluating(model):
        for x in batches(images, batch_size):
            output = model(x)
            totals.add(output)
            decoded = model.decode(output.indices)
            errors.append((decoded - x).square().mean((1, 2, 3)))
            similarities.append(_ssim(decoded, x))
            progress(len(x))
    means = totals.means(beta)
    if not math.isfinite(means.loss):
        raise UserError(
            f"evaluation: expected a finite loss; got {means.loss}. The weights are damaged or "
            "diverged in training: evaluate an earlier checkpoint."
        )
    error = torch.cat(errors).cpu().double()
    mse = error.mean().item()
    bits = output.indices[0].numel() * math.log2(len(model.quantizer.codebook))
    return {
        "format": 1,
        "split": split,
        "images": totals.images,
        "metrics": {
            "mse": mse,
            "forward_mse": means.reconstruction_loss,
            "psnr": psnr(mse),
            "psnr_per_image": (10 * torch.log10(4 / error)).clamp_max(100).mean().item(),
            "ssim": torch.cat(similarities).cpu().double().mean().item(),
            "loss": means.loss,
            "codebook_loss": means.codebook_loss,
            "commitment_loss": means.commitment_loss,
            "relative_error": means.relative_error,
            "perplexity": means.perplexity,
            "usage": means.usage,
            "codes_used": int((totals.counts > 0).sum()),
            "bits_per_image": bits,
            "bits_per_pixel": bits / (images.shape[2] * images.shape[3]),
        },
        "protocol": PROTOCOL,
        "counts": totals.counts.tolist(),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of each image; nan where the window of 11 pixels does not fit."""
    if min(a.shape[2:]) < 11:
        return torch.full((len(a),), math.nan, device=a.device)
    # Late: coding images to tokens takes this module too, and must not need torchmetrics.
    from torchmetrics.functional.image import structural_similarity_index_measure

    # On [0, 1]: SSIM compares means too, so it depends on where black lies.
    a, b = (a + 1) / 2, (b + 1) / 2
    each = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    assert isinstance(each, Tensor)
    return each
