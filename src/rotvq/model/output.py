"""The output of a forward pass, with the losses of the paper (eqs. 1, 6, 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class VQVAEOutput:
    """The result of a forward pass, registered as a pytree.

    Attributes:
        reconstruction: images in [-1, 1], in the decoder's precision.
        indices: int64 in [0, k), −1 where a level was left out or a scale has no token, in the
            shape that `VQVAE.encode` returns.
        latents: z_e, the encoder's output before quantization, in its precision; no gradient.
        reconstruction_loss: mean squared error on [-1, 1], float32.
        codebook_loss: mean of (sg[z_e] − e)², float32.
        commitment_loss: mean of (z_e − sg[e])², float32, not yet multiplied by β.
        entropy_loss: of the soft code assignments, float32, as in `Quantized`; 0 unless the
            quantizer computes it.
        latent_moments: mean and variance of z_e within each channel, float32, no gradient; of the
            vectors that are compared with codes, where the quantizer brings them to unit length.
    """

    reconstruction: Float[Tensor, "b c h w"]
    indices: Int64[Tensor, "b i j *levels"]
    latents: Float[Tensor, "b d i j"]
    reconstruction_loss: Float[Tensor, ""]
    codebook_loss: Float[Tensor, ""]
    commitment_loss: Float[Tensor, ""]
    entropy_loss: Float[Tensor, ""]
    latent_moments: Float[Tensor, "2 d"]

    def loss(self, beta: float = 0.25, entropy_weight: float = 0.0) -> Float[Tensor, ""]:
        """reconstruction + codebook + β·commitment (eqs. 1, 6, 7) + entropy_weight·entropy_loss."""
        paper_loss = self.reconstruction_loss + self.codebook_loss + beta * self.commitment_loss
        return paper_loss + entropy_weight * self.entropy_loss


torch.export.register_dataclass(VQVAEOutput, serialized_type_name="rotvq.VQVAEOutput")
