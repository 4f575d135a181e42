"""The adversarial loss: a discriminator that tells images and reconstructions apart, patch by
patch (Isola et al. 2017, arXiv 1611.07004; for autoencoders, Esser et al. 2021, arXiv 2012.09841).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

WIDTHS = (32, 64, 128)
PENALIZE_EVERY = 16
"""Steps between gradient penalties, as in StyleGAN2 (Karras et al. 2020, arXiv 1912.04958)."""
PENALTY = 1.0
"""Weight γ of the gradient penalty: γ/2 times the squared gradient norm."""
RAMP = 0.1
"""Share of a run over which the adversarial loss gains its full weight."""


class PatchDiscriminator(nn.Module):
    """Images to one logit per patch of 26x26 pixels, 4 pixels apart: real if above 0.

    Group normalization instead of the usual batch normalization: each image is judged alone, so
    the loss does not depend on how a batch is split.

    Args:
        channels: image channels.
        widths: channels of the layers; multiples of 8.
    """

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        # A kernel of 4 overlaps evenly at a stride of 2: no checkerboard in the gradient.
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for number, (before, after) in enumerate(pairwise(widths)):
            size = (4, 2, 1) if number == 0 else (3, 1, 1)
            layers += [nn.Conv2d(before, after, *size), nn.GroupNorm(8, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 i j"]:
        """Logits of images in [-1, 1], at least 4 pixels high and wide."""
        logits: Tensor = self.layers(x)
        return logits.float()


def hinge_loss(
    real: Float[Tensor, "*patches"], fake: Float[Tensor, "*patches"]
) -> Float[Tensor, ""]:
    """The discriminator's loss (Lim & Ye 2017, arXiv 1705.02894): 0 if all logits are beyond ±1.

    Args:
        real: logits of images.
        fake: logits of reconstructions.
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def gradient_penalty(discriminator: nn.Module, x: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """R1 (Mescheder et al. 2018, arXiv 1801.04406, eq. 9, without γ/2), in float32.

    Mean over images of the squared norm of the gradient of an image's mean logit.

    Args:
        discriminator: the network whose gradient is penalized.
        x: real images.
    """
    x = x.detach().float().requires_grad_()
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        logits = discriminator(x).mean((1, 2, 3)).sum()
        (gradient,) = torch.autograd.grad(logits, x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def adversarial_losses(
    discriminator: nn.Module,
    x: Float[Tensor, "b c h w"],
    reconstruction: Float[Tensor, "b c h w"],
    penalize: bool,
) -> dict[str, Float[Tensor, ""]]:
    """The losses of model and discriminator; their sum gives each of the two its own gradient.

    Args:
        discriminator: maps images to logits.
        x: real images.
        reconstruction: reconstructions, in any precision.
        penalize: add the gradient penalty, which is due every `PENALIZE_EVERY` steps.

    Returns:
        `adversarial_loss`, with a gradient for the reconstruction alone, and
        `discriminator_loss`, with one for the discriminator alone.
    """
    reconstruction = reconstruction.to(x.dtype)
    frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
    judged = functional_call(discriminator, frozen, (reconstruction,))
    real, fake = discriminator(torch.cat([x, reconstruction.detach()])).split(len(x))
    loss = hinge_loss(real, fake)
    if penalize:
        loss = loss + PENALTY / 2 * PENALIZE_EVERY * gradient_penalty(discriminator, x)
    return {"adversarial_loss": -judged.mean(), "discriminator_loss": loss}


def ramp(progress: float, start: float) -> float:
    """The share of the adversarial weight in effect: 0 until `start`, then rising to 1.

    Args:
        progress: share of the run's steps that are done, 0 to 1.
        start: share of the run before the loss begins.
    """
    return min(1.0, max(0.0, (progress - start) / RAMP))
