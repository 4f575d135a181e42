"""Metrics as pure functions, and sums that accumulate them batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.model import VQVAEOutput

MAX_COUNTED = 2**24
"""Maximum number of codes whose use is counted."""


def perplexity(counts: Int64[Tensor, " k"]) -> Float[Tensor, ""]:
    """exp of the entropy of code use: 1 if one code is always chosen, k if all are used equally.

    Args:
        counts: how often each code was used.

    Returns:
        A float32 scalar in [1, k]; 1 without any counts.
    """
    p = counts / counts.sum().clamp_min(1)
    return torch.exp(torch.special.entr(p).sum())


def usage(counts: Int64[Tensor, " k"]) -> Float[Tensor, ""]:
    """Share of the codes used at least once, 0 to 1."""
    return (counts > 0).float().mean()


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error on [-1, 1] (peak 2)."""
    if mse in (0, math.inf):
        return math.inf if mse == 0 else -math.inf
    return 10 * math.log10(4 / mse) if mse > 0 else math.nan


def psnr_of_each(mse: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """PSNR in dB of each image, at most 100, from mean squared errors on [-1, 1] (peak 2)."""
    return (10 * torch.log10(4 / mse)).clamp_max(100)


@dataclass(frozen=True)
class Means:
    """Means over the images seen so far, with code use over all their tokens.

    With several codebooks (residual or grouped quantizers), `perplexity`, `batch_perplexity` and
    `usage` are means over the codebooks; `Totals.codebooks` lists them one by one.

    Args:
        loss: reconstruction + codebook + β·commitment (eq. 7).
        reconstruction_loss: mean squared error on [-1, 1].
        codebook_loss: mean of (sg[z_e] − e)².
        commitment_loss: mean of (z_e − sg[e])², without β.
        relative_error: commitment loss over the variance of z_e: the share of its information that
            quantization loses. The scale of z_e, which no loss fixes, cancels.
        perplexity: perplexity of the counts over all batches.
        batch_perplexity: mean of the perplexities of the forward passes (the micro-batches of one
            process), as in the paper's training curves.
        usage: share of the codes used at least once.
    """

    loss: float
    reconstruction_loss: float
    codebook_loss: float
    commitment_loss: float
    relative_error: float
    perplexity: float
    batch_perplexity: float
    usage: float


@dataclass(frozen=True)
class CodebookUse:
    """How one codebook was used.

    Args:
        size: number of codes.
        perplexity: exp of the entropy of code use, 1 to size.
        usage: share of the codes used at least once.
        codes_used: number of codes used at least once.
    """

    size: int
    perplexity: float
    usage: float
    codes_used: int


class Totals:
    """Running sums on the device; the host waits for them only when they are read.

    Args:
        codebook_sizes: number of codes for each index of a vector.
        dim: channels of z_e.
        device: where the sums are kept.

    Attributes:
        counts: how often each code was used, int64; the codebooks one after the other.

    Raises:
        UserError: there are more codes than can be counted.
    """

    def __init__(
        self, codebook_sizes: Sequence[int], dim: int, device: torch.device | str = "cpu"
    ) -> None:
        self.codebook_sizes = list(codebook_sizes)
        k = sum(codebook_sizes)
        if k > MAX_COUNTED:
            raise UserError(
                f"quantizer: expected at most {MAX_COUNTED:,} codes to count the use of; got "
                f"{k:,}. Use fewer levels, or a GroupedQuantizer of several grids."
            )
        # Sums of the three losses and of the moments of z_e, each times images; of perplexities,
        # images and batches. In float64 where the device has it, so that equal means stay equal.
        wide = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.sums = torch.zeros(6, device=device, dtype=wide)
        self.moments = torch.zeros(2, dim, device=device, dtype=wide)
        self.counts = torch.zeros(k, dtype=torch.int64, device=device)
        # Where each codebook starts in `counts`.
        self._offsets = torch.tensor([0, *self.codebook_sizes[:-1]], device=device).cumsum(0)

    @torch.no_grad()
    def add(self, output: VQVAEOutput, counts: Bool[Tensor, ""] | None = None) -> None:
        """Add one batch.

        Args:
            output: the model's output.
            counts: False leaves the batch out; on the device, so that the host need not wait.
        """
        images = len(output.indices)
        means = (output.reconstruction_loss, output.codebook_loss, output.commitment_loss)
        mean, variance = output.latent_moments.to(self.moments.dtype)
        used = torch.zeros_like(self.counts)
        # −1 where quantizer dropout left a level out.
        indices = output.indices.reshape(-1, len(self._offsets))
        places = (indices + self._offsets).clamp_min(0).flatten()
        used.index_add_(0, places, (indices >= 0).long().flatten())
        one = torch.ones_like(self.sums[0])
        sums = torch.stack(
            [
                *(mean * images for mean in means),
                self._mean_over_codebooks(perplexity, used),
                one * images,
                one,
            ]
        )
        moments = torch.stack([mean, variance + mean**2]) * images
        if counts is not None:
            sums, moments, used = (t.where(counts, 0) for t in (sums, moments, used))
        self.sums += sums
        self.moments += moments
        self.counts += used

    @property
    def images(self) -> int:
        """Images seen."""
        return int(self.sums[4])

    @property
    def codebooks(self) -> list[CodebookUse]:
        """How each codebook was used, in the order of `codebook_sizes`."""
        return [
            CodebookUse(
                len(counts),
                perplexity(counts).item(),
                usage(counts).item(),
                int((counts > 0).sum()),
            )
            for counts in self.counts.split(self.codebook_sizes)
        ]

    def means(self, beta: float) -> Means:
        """The means so far; nan before the first batch.

        Args:
            beta: weight of the commitment loss in `loss`.
        """
        *sums, images, batches = self.sums.tolist()
        images, batches = images or math.nan, batches or math.nan
        reconstruction, codebook, commitment = (total / images for total in sums[:3])
        mean, square = self.moments / images
        variance = (square - mean**2).mean().item()
        return Means(
            loss=reconstruction + codebook + beta * commitment,
            reconstruction_loss=reconstruction,
            codebook_loss=codebook,
            commitment_loss=commitment,
            relative_error=commitment / variance if variance else math.nan,
            perplexity=self._mean_over_codebooks(perplexity, self.counts).item(),
            batch_perplexity=sums[3] / batches,
            usage=self._mean_over_codebooks(usage, self.counts).item(),
        )

    def reduce(self) -> None:
        """Sum over all processes, if there are several."""
        if not (dist.is_available() and dist.is_initialized()):
            return
        for t in self.state_dict().values():
            dist.all_reduce(t)

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, to be saved in the middle of an epoch."""
        return {"sums": self.sums, "moments": self.moments, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from the sums of `state_dict`."""
        for name, t in self.state_dict().items():
            t.copy_(state[name])

    def _mean_over_codebooks(self, metric: Callable[[Tensor], Tensor], counts: Tensor) -> Tensor:
        return torch.stack([metric(each) for each in counts.split(self.codebook_sizes)]).mean()
