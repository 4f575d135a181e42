"""The VQ-VAE: network, saving and loading."""

from rotvq.model.blocks import Decoder, Encoder, ResidualBlock
from rotvq.model.output import VQVAEOutput
from rotvq.model.vqvae import VQVAE

__all__ = ["VQVAE", "Decoder", "Encoder", "ResidualBlock", "VQVAEOutput"]
