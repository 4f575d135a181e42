"""The paper's network."""

from rotvq.model.blocks import Decoder, Encoder, ResidualBlock
from rotvq.model.vqvae import VQVAE, VQVAEOutput

__all__ = ["VQVAE", "Decoder", "Encoder", "ResidualBlock", "VQVAEOutput"]
