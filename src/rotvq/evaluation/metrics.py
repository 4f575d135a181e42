"""What is measured, as pure functions, and sums that build it up batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.model import VQVAEOutput


def perplexity(counts: Int64[Tensor, " k"]) -> Float[Tensor, ""]:
    """exp of the entropy of code use: 1 where one code takes all, k where all are used alike.

    Args:
        counts: how often each code was used.

    Returns:
        A float32 scalar in [1, k]; 1 for no counts at all.
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


@dataclass(frozen=True)
class Means:
    """Means over the images seen, with code use over all their tokens.

    Args:
        loss: reconstruction + codebook + β·commitment (eq. 7).
        reconstruction_loss: mean squared error on [-1, 1].
        codebook_loss: mean (sg[z_e] − e)².
        commitment_loss: mean (z_e − sg[e])², without β.
        relative_error: commitment loss over the variance of z_e, the share of its information that
            quantization takes; the scale of z_e, which no loss fixes, cancels.
        perplexity: of the counts over all batches.
        batch_perplexity: mean over the forward passes (micro-batches of a process) of each one's
            perplexity, as the paper's training curves have it.
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


class Totals:
    """Running sums on the device; reading them is the only time the host waits.

    Args:
        shape: (K, D) of the codebook.
        device: where the sums live.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        # Sums of the three losses and of the moments of z_e, each times images; of perplexities,
        # images and batches. In float64 where the device has it, so that equal means stay equal.
        wide = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.sums = torch.zeros(6, device=device, dtype=wide)
        self.moments = torch.zeros(2, shape[1], device=device, dtype=wide)
        self.counts = torch.zeros(shape[0], dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, output: VQVAEOutput, counts: Bool[Tensor, ""] | None = None) -> None:
        """Add one batch.

        Args:
            output: of the model.
            counts: False to leave it out, decided on the device.
        """
        images = len(output.indices)
        means = (output.reconstruction_loss, output.codebook_loss, output.commitment_loss)
        mean, variance = output.latent_moments.to(self.moments.dtype)
        used = torch.zeros_like(self.counts)
        indices = output.indices.flatten()
        used.index_add_(0, indices, torch.ones_like(indices))
        one = torch.ones_like(self.sums[0])
        sums = torch.stack(
            [*(mean * images for mean in means), perplexity(used), one * images, one]
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
    def batches(self) -> int:
        """Batches seen."""
        return int(self.sums[5])

    def means(self, beta: float) -> Means:
        """The means so far, nan before the first batch.

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
            perplexity=perplexity(self.counts).item(),
            batch_perplexity=sums[3] / batches,
            usage=usage(self.counts).item(),
        )

    def reduce(self) -> None:
        """Sum over all processes, where there are several."""
        if not (dist.is_available() and dist.is_initialized()):
            return
        for t in self.state_dict().values():
            dist.all_reduce(t)

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, to be saved in the middle of an epoch."""
        return {"sums": self.sums, "moments": self.moments, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the sums of `state_dict`."""
        for name, t in self.state_dict().items():
            t.copy_(state[name])
