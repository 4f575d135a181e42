"""Evaluates a model over a whole split; the record states the protocol in words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.evaluation import ssim
from rotvq.evaluation.metrics import Totals, psnr, psnr_of_each
from rotvq.evaluation.pixels import normalized
from rotvq.evaluation.sharpness import SHARPNESS, edge_energy
from rotvq.model import VQVAE
from rotvq.model.error_functions import ErrorFunction, squared_error
from rotvq.model.level_search import LevelSearch
from rotvq.model.levels import number_of_bits

PROTOCOL = {
    "images": "every image of the split, once, in order, at its own size",
    "range": "pixels x/127.5 - 1 in [-1, 1]; the decoder's output is neither rounded nor clipped",
    "precision": "float32; the model is in evaluation mode and is not modified",
    "mse": "mean squared error on [-1, 1] of images decoded from their indices alone",
    "forward_mse": "the same for the forward pass; differs from mse if the quantizer's output is "
    "not a code (the released reflection)",
    "psnr": "10 log10(4 / mse) of the split's mse, in dB; psnr_per_image is the mean over images "
    "of each image's PSNR, at most 100 dB each",
    "ssim": f"on [0, 1] with data range 1: {ssim.GAUSSIAN}, mean over pixels, channels and images",
    "ssim_uniform_7x7": f"on [0, 1] with data range 1: {ssim.UNIFORM}, mean over pixels, channels "
    "and images; usually higher than ssim",
    "sharpness": SHARPNESS,
    "perplexity": "exp of the entropy of code use, counted over all tokens of the split",
    "usage": "share of the codes used at least once in the split",
    "losses": "means over elements; loss = forward_mse + codebook + beta * commitment",
    "relative_error": "commitment loss over the variance of z_e within each channel",
    "bits": "tokens per image times log2 of the codebook size, as a fixed-length code",
}

SEVERAL_CODEBOOKS = {
    "perplexity": PROTOCOL["perplexity"] + ", for each codebook; `perplexity` is the mean over the "
    "codebooks, and `codebooks` lists them",
    "usage": PROTOCOL["usage"] + ", for each codebook; `usage` is the mean over the codebooks, "
    "`codes_used` their sum, and `codebooks` lists them",
    "bits": "sum over the indices of an image of log2 of the size of their codebook, as a "
    "fixed-length code",
}
"""Replaces entries of the protocol if each position has several indices."""

SEVERAL_LEVELS = {
    "levels": "image metrics and bits of the first levels (or scales) alone: the same tokens, "
    "without the indices of the other levels",
}
"""Added to the protocol for a residual or multi-scale quantizer."""

_SEARCHED = {
    "precision": "float32, except that the search for tokens decodes in bf16 where the processor "
    "computes in bf16; the model is in evaluation mode and is not modified",
    "effort": "the tokens that images are decoded from, and whose use is counted, were searched "
    "for at this effort to lower the error of each image (rotvq.model.token_search); "
    "forward_mse, losses and relative_error are those of the nearest codes",
    "seconds_per_image": "wall time of the search alone, in batches",
}
_ERRORS: dict[ErrorFunction, str] = {
    squared_error: "the squared error",
    ssim.structural_error: f"the squared error plus {ssim.STRUCTURE} (1 - SSIM), summed over "
    f"pixels; {ssim.GAUSSIAN}",
}


def searched(error: ErrorFunction) -> dict[str, str]:
    """What is added to the protocol if tokens were searched for."""
    return _SEARCHED | {"error": _ERRORS.get(error, "another function")}


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's weights."""
    return next(model.parameters()).device


def batches(images: Tensor, batch_size: int, model: nn.Module) -> Iterator[Tensor]:
    """The images in order, normalized, a batch at a time on the device of a model."""
    for part in images.split(batch_size):
        yield normalized(part.to(device_of(model)))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and full float32 convolutions (no TF32) inside the context."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled,
            benchmark=torch.backends.cudnn.benchmark,
            deterministic=torch.backends.cudnn.deterministic,
            allow_tf32=False,
        ):
            yield
    finally:  # each module: a quantizer in evaluation mode has a frozen codebook
        for module, training in modes:
            module.training = training


@torch.no_grad()
def totals_over(model: VQVAE, images: UInt8[Tensor, "n c h w"], batch_size: int) -> Totals:
    """Losses and code use of the forward pass over images, with the model in evaluation mode."""
    totals = Totals(model.quantizer.codebook_sizes, model.quantizer.dim, device_of(model))
    with evaluating(model):
        for x in batches(images, batch_size, model):
            totals.add(model(x))
    return totals


class _ImageMetrics:
    """Image metrics of reconstructions, accumulated batch by batch."""

    def __init__(self) -> None:
        self.errors: list[Tensor] = []
        self.gaussian: list[Tensor] = []
        self.uniform: list[Tensor] = []
        self.edges: list[Tensor] = []

    def add(self, x: Tensor, decoded: Tensor) -> None:
        self.errors.append((decoded - x).square().mean((1, 2, 3)))
        self.gaussian.append(ssim.gaussian_ssim(decoded, x))
        self.uniform.append(ssim.uniform_ssim(decoded, x))
        self.edges.append(torch.stack([edge_energy(decoded), edge_energy(x)]))

    def means(self) -> dict[str, float]:
        error = torch.cat(self.errors).cpu().double()
        mse = error.mean().item()
        energy, of_originals = torch.cat(self.edges, 1).cpu().double().sum(1).tolist()
        return {
            "mse": mse,
            "psnr": psnr(mse),
            "psnr_per_image": psnr_of_each(error).mean().item(),
            "ssim": torch.cat(self.gaussian).cpu().double().mean().item(),
            "ssim_uniform_7x7": torch.cat(self.uniform).cpu().double().mean().item(),
            "sharpness": energy / of_originals if of_originals else math.nan,
        }


@torch.no_grad()
def evaluate(
    model: VQVAE,
    images: UInt8[Tensor, "n c h w"],
    *,
    beta: float,
    split: str = "test",
    batch_size: int = 128,
    search: LevelSearch | None = None,
    error: ErrorFunction = squared_error,
    progress: Callable[[int], object] = lambda images: None,
    on_batch: Callable[[Tensor, Tensor], object] = lambda x, reconstruction: None,
) -> dict[str, Any]:
    """Compute every metric over a split; returns the record of `evaluation.json`.

    Args:
        model: put in evaluation mode during the call.
        images: uint8, on any device.
        beta: weight of the commitment loss in `loss`.
        split: name of the split in the record.
        batch_size: images per batch.
        search: finds the tokens to evaluate; None for the nearest codes. With an effort
            above 0, the record has `effort` and `seconds_per_image`.
        error: what the search lowers, as in `VQVAE.encode`.
        progress: called after each batch with its number of images.
        on_batch: called with the images of each batch and their reconstructions, in [-1, 1], for
            further metrics.

    Returns:
        `metrics`, their `protocol` in words, and in `counts` how often each code was used, the
        codebooks one after the other (empty above `run_folder.MOST_CODES`). With several codebooks
        also `codebooks`: size, perplexity, usage and codes used of each. With residual levels also
        `levels`: image metrics and bits of the first level alone, of the first two, and so on.

    Raises:
        UserError: the loss is not finite, because images or weights are not.
    """
    started, searching = time.perf_counter(), 0.0
    search = search or LevelSearch(model, 0)
    totals = Totals(model.quantizer.codebook_sizes, model.quantizer.dim, device_of(model))
    quantizer = model.quantizer
    by_level = [_ImageMetrics() for _ in range(quantizer.residual_levels)]
    with evaluating(model):
        for x in batches(images, batch_size, model):
            output = model(x)
            if search.effort:
                since = time.perf_counter()
                output = replace(output, indices=search(x, output.indices, error))
                if x.is_cuda:
                    torch.cuda.synchronize(x.device)
                searching += time.perf_counter() - since
            totals.add(output)
            for levels, metrics in enumerate(by_level, start=1):
                decoded = model.decode(output.indices, levels)
                metrics.add(x, decoded)
            on_batch(x, decoded)
            progress(len(x))
    means = totals.means(beta)
    if not math.isfinite(means.loss):
        raise UserError(
            f"evaluation: expected a finite loss; got {means.loss}. The weights are damaged or "
            "diverged in training: evaluate an earlier checkpoint."
        )
    use = totals.codebooks
    grid, pixels = (*output.indices.shape[1:3],), math.prod(images.shape[2:])

    def bits(levels: int) -> dict[str, float]:
        per_image = number_of_bits(quantizer, grid, levels)
        return {"bits_per_image": per_image, "bits_per_pixel": per_image / pixels}

    record = {
        "format": run_folder.FORMAT,
        "split": split,
        "images": totals.images,
        "metrics": {
            **by_level[-1].means(),
            "forward_mse": means.reconstruction_loss,
            "loss": means.loss,
            "codebook_loss": means.codebook_loss,
            "commitment_loss": means.commitment_loss,
            "relative_error": means.relative_error,
            "perplexity": means.perplexity,
            "usage": means.usage,
            "codes_used": sum(codebook.codes_used for codebook in use),
            **bits(len(by_level)),
        },
        "protocol": PROTOCOL
        | (SEVERAL_CODEBOOKS if len(use) > 1 else {})
        | (SEVERAL_LEVELS if len(by_level) > 1 else {})
        | (searched(error) if search.effort else {}),
        "counts": totals.counts.tolist() if len(totals.counts) <= run_folder.MOST_CODES else [],
        "seconds": round(time.perf_counter() - started, 2),
    }
    if len(use) > 1:
        record["codebooks"] = [asdict(codebook) for codebook in use]
    if len(by_level) > 1:
        record["levels"] = [
            {"levels": n, **bits(n), **metrics.means()} for n, metrics in enumerate(by_level, 1)
        ]
    if search.effort:
        record["effort"] = search.effort
        record["seconds_per_image"] = round(searching / totals.images, 5)
    return record
