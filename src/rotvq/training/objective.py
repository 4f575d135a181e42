"""The training objective: the tokenizer's own losses, and those of networks that judge it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.model import VQVAE, VQVAEOutput
from rotvq.training.adversarial import PatchDiscriminator, adversarial_losses, ramp
from rotvq.training.config import Config, TrainingConfig
from rotvq.training.perceptual import ClassifierEmbedding, load_embedding, perceptual_loss

PIXEL_LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}

Losses = dict[str, Float[Tensor, ""]]
"""Additional losses by name, not yet weighted."""


class Objective(nn.Module):
    """A model with the networks that judge its reconstructions, as one module.

    One backward pass gives model and discriminator their gradients, so processes, accumulation,
    loss scaling and skipped steps work as they do without a discriminator.

    Args:
        model: the model being trained.
        embedding: the frozen network of the perceptual loss; None without one.
        discriminator: trained together with the model; None without one.
    """

    def __init__(
        self,
        model: VQVAE,
        embedding: nn.Module | None = None,
        discriminator: PatchDiscriminator | None = None,
    ) -> None:
        super().__init__()
        self.model, self.embedding, self.discriminator = model, embedding, discriminator

    @property
    def names(self) -> list[str]:
        """The names of the additional losses."""
        perceptual = ["perceptual_loss"] * (self.embedding is not None)
        return perceptual + ["adversarial_loss", "discriminator_loss"] * (
            self.discriminator is not None
        )

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        tokens: Int64[Tensor, "b i j *levels"] | None = None,
        penalize: bool = False,
    ) -> tuple[VQVAEOutput, Losses]:
        """The model's output, and the losses of the other networks.

        Args:
            x: images in [-1, 1].
            tokens: the tokens to decode, as in `VQVAE.forward`.
            penalize: whether the discriminator's gradient penalty is due.
        """
        output: VQVAEOutput = self.model(x, tokens)
        losses: Losses = {}
        if self.embedding is not None:
            losses["perceptual_loss"] = perceptual_loss(self.embedding, x, output.reconstruction)
        if self.discriminator is not None:
            losses |= adversarial_losses(self.discriminator, x, output.reconstruction, penalize)
        return output, losses


def build_objective(
    model: VQVAE, config: Config, sides: tuple[int, int]
) -> tuple[Objective, dict[str, Any] | None]:
    """The objective of a run, and the description of the perceptual network for run.json.

    Args:
        model: the model, on its device.
        config: configuration of the run. A discriminator's weights are drawn from torch's global
            generator.
        sides: height and width of the images.

    Raises:
        UserError: the perceptual network cannot be loaded, or the images are too small for it.
    """
    options, device = config.training, next(model.parameters()).device
    embedding, record = None, None
    if options.perceptual_weight and options.perceptual:
        embedding, record = load_embedding(options.perceptual)
        smallest = 2 ** len(embedding.stages) if isinstance(embedding, ClassifierEmbedding) else 16
        if min(sides) < smallest:
            raise UserError(
                f"training.perceptual: expected images of {smallest} pixels or more a side; got "
                f"{sides[0]}x{sides[1]}. Pass --data.size or --training.perceptual_weight 0."
            )
    discriminator = PatchDiscriminator(model.channels) if options.adversarial_weight else None
    objective = Objective(model, embedding, discriminator).to(device)
    # torch's type of `to` lacks the memory format of modules.
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return objective, record


def total_loss(
    output: VQVAEOutput,
    losses: Losses,
    x: Float[Tensor, "b c h w"],
    options: TrainingConfig,
    progress: float,
) -> Float[Tensor, ""]:
    """The weighted sum that is minimized: eq. 7 plus the additional losses.

    Args:
        output: the model's output.
        losses: losses of the objective; the discriminator's has weight 1, because no gradient of it
            reaches the model.
        x: the images, in [-1, 1].
        options: the weights of the losses.
        progress: share of the run's steps that are done, 0 to 1.
    """
    if options.pixel_loss != "mse":
        error = PIXEL_LOSSES[options.pixel_loss](output.reconstruction.float(), x.float())
        output = replace(output, reconstruction_loss=error)
    weights = {
        "perceptual_loss": options.perceptual_weight,
        "adversarial_loss": options.adversarial_weight * ramp(progress, options.adversarial_start),
        "discriminator_loss": 1.0,
    }
    loss = output.loss(options.beta, options.entropy_weight)
    for name, value in losses.items():
        # With a weight of 0, the backward pass through the network is skipped.
        if weights[name]:
            loss = loss + weights[name] * value
    return loss
