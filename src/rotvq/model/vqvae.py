"""The paper's VQ-VAE: encoder → vector quantizer → decoder, with its losses (eqs. 1, 6, 7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.model import hub, pretrained
from rotvq.model.blocks import Decoder, Encoder
from rotvq.model.patches import PatchDecoder, PatchEncoder
from rotvq.quantization import (
    Codebook,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from rotvq.quantization.tensors import readable

Network = Callable[[int, int, int, int, int], nn.Sequential]
Quantizer = VectorQuantizer | FiniteScalarQuantizer | ResidualQuantizer | GroupedQuantizer

NETWORKS: dict[str, tuple[Network, Network]] = {
    "paper": (Encoder, Decoder),
    "patches": (PatchEncoder, PatchDecoder),
    "attention": (partial(PatchEncoder, attention=True), partial(PatchDecoder, attention=True)),
}
"""Encoder and decoder by name: functions of channels, width, dim, depth, stages."""


MOST_STAGES = 8
"""Halvings at most: with 8, a single token already stands for 256x256 pixels."""


class VQVAEOutput(NamedTuple):
    """What a forward pass yields.

    Attributes:
        reconstruction: images in (-1, 1), in the decoder's precision.
        indices: int64 in [0, k).
        reconstruction_loss: mean squared error on [-1, 1], float32.
        codebook_loss: mean (sg[z_e] − e)², float32.
        commitment_loss: mean (z_e − sg[e])², float32, not yet multiplied by β.
        entropy_loss: log k − H of the codes' soft use, float32; 0 where it is not weighed.
        latent_moments: mean and variance of z_e within each channel, float32, no gradient.
    """

    reconstruction: Float[Tensor, "b c h w"]
    indices: Int64[Tensor, "b i j"]
    reconstruction_loss: Float[Tensor, ""]
    codebook_loss: Float[Tensor, ""]
    commitment_loss: Float[Tensor, ""]
    entropy_loss: Float[Tensor, ""]
    latent_moments: Float[Tensor, "2 d"]

    def loss(self, beta: float = 0.25, entropy_weight: float = 0.0) -> Tensor:
        """reconstruction + codebook + β·commitment (eqs. 1, 6, 7) + entropy_weight·entropy_loss."""
        papers = self.reconstruction_loss + self.codebook_loss + beta * self.commitment_loss
        return papers + entropy_weight * self.entropy_loss


class NormalizedLatents(nn.Module):
    """Vectors of C channels scaled to length √C: only their directions are left to quantize."""

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        work = z.float()
        length = work.square().mean(1, keepdim=True)
        return (work * torch.rsqrt(length + torch.finfo(work.dtype).eps)).to(z.dtype)


class VQVAE(nn.Module):
    """Images to tokens and back.

    The defaults are the paper's: K = 1024 codes of D = 256, an 8×8 grid for a 32×32 image.

    Args:
        channels: of the images.
        width: channels of the residual blocks.
        dim: D, the length of a code.
        depth: residual blocks on each side.
        stages: halvings of height and width, at most 8.
        quantizer: of any kind, of that dim with channel_dim=1; by default a `VectorQuantizer` of
            1024 codes, the rotation, EMA with γ = 0.99. The indices of residual and grouped ones
            have more dimensions, behind rows and columns.
        network: of encoder and decoder, one of `NETWORKS`.
        normalized_latents: scale each z_e to length √D before it is quantized.

    Raises:
        UserError: a size below 1, more than 8 stages, an unknown network, or a quantizer of another
            dim.

    Example:
        >>> model = VQVAE(width=32, dim=16).eval()
        >>> indices = model.encode(torch.zeros(2, 3, 32, 32))
        >>> indices.shape, model.decode(indices).shape
        (torch.Size([2, 8, 8]), torch.Size([2, 3, 32, 32]))
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 256,
        dim: int = 256,
        depth: int = 2,
        stages: int = 2,
        quantizer: Quantizer | None = None,
        network: str = "paper",
        normalized_latents: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "width": width, "dim": dim, "stages": stages}
        for name, value in sizes.items():
            if value < 1:
                raise UserError(f"model.{name}: expected 1 or more; got {value}.")
        if depth < 0:
            raise UserError(f"model.depth: expected 0 or more; got {depth}.")
        if stages > MOST_STAGES:
            raise UserError(
                f"model.stages: expected at most {MOST_STAGES}; got {stages}. Each stage halves "
                "height and width, so that one token stands for more pixels than memory holds."
            )
        if network not in NETWORKS:
            raise UserError(
                f"model.network: expected one of {', '.join(NETWORKS)}; got {network!r}."
            )
        make_encoder, make_decoder = NETWORKS[network]
        self.encoder = make_encoder(channels, width, dim, depth, stages)
        if normalized_latents:
            self.encoder.append(NormalizedLatents())
        self.quantizer = quantizer or VectorQuantizer(dim=dim, channel_dim=1)
        self.decoder = make_decoder(channels, width, dim, depth, stages)
        self.channels = channels
        self.stride = 2**stages
        self.arguments = {
            **sizes,
            "depth": depth,
            "network": network,
            "normalized_latents": normalized_latents,
        }
        length, channel_dim = self.quantizer.dim, self.quantizer.channel_dim
        if length != dim or channel_dim != 1:
            raise UserError(
                f"quantizer: expected codes of length {dim} and channel_dim=1; got length "
                f"{length} and channel_dim={channel_dim}."
            )

    def forward(self, x: Float[Tensor, "b c h w"]) -> VQVAEOutput:
        """Reconstruct images and take the losses.

        Args:
            x: images in [-1, 1], height and width divisible by 2**stages.

        Raises:
            UserError: images of another shape or dtype.
        """
        z_e = self.encoder(self._checked(x))
        quantized = self.quantizer(z_e)
        reconstruction = self.decoder(quantized.z_q)
        latents, dim = z_e.detach().float(), (0, 2, 3)
        return VQVAEOutput(
            reconstruction,
            quantized.indices,
            F.mse_loss(reconstruction.float(), x.float()),
            quantized.codebook_loss,
            quantized.commitment_loss,
            quantized.entropy_loss,
            torch.stack([latents.mean(dim), latents.var(dim, correction=0)]),
        )

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "b c h w"]) -> Int64[Tensor, "b i j"]:
        """Images in [-1, 1] to indices in [0, k).

        Raises:
            UserError: as in `forward`, or images or weights are not finite.
        """
        z_e = _finite(self.encoder(self._checked(x)), "latents")
        for module in self.quantizer.modules():
            if isinstance(module, Codebook):
                _finite(module.embeddings, "codes")
        indices: Tensor = self.quantizer.encode(z_e)
        return indices

    @torch.no_grad()
    def decode(self, indices: Int64[Tensor, "b i j"]) -> Float[Tensor, "b c h w"]:
        """Indices to images in (-1, 1); `decode(encode(x))` is the forward pass's reconstruction.

        Of a residual quantizer the first levels will do: `decode(indices[..., :2])`.

        Raises:
            UserError: indices of another shape than `encode` gives, or not int64 in [−1, k); −1
                decodes as zeros. Weights that are not finite.
        """
        more = "".join(f", {n}" for n in self.quantizer.index_shape)
        if indices.ndim != 3 + len(self.quantizer.index_shape):
            raise UserError(
                f"indices: expected shape (batch, rows, columns{more}); got {tuple(indices.shape)}."
            )
        codes = self.quantizer.lookup(indices)
        # In the precision that the quantizer's output has in a forward pass.
        device = codes.device.type
        inside = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if inside else next(self.parameters()).dtype
        return _finite(self.decoder(codes.to(dtype)), "pixels")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, from which `from_pretrained` builds it.

        Raises:
            UserError: the estimator is a function of your own, several quantizers share one
                codebook, or weights are not finite.
        """
        pretrained.save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> VQVAE:
        """A saved model, on the CPU in evaluation mode.

        Args:
            name: a folder that `save_pretrained` or `rotvq train` wrote, or owner/name on the hub.
            revision: branch, tag or commit on the hub.

        Raises:
            UserError: there is none of that name, or its files are damaged or of another model.
        """
        return pretrained.load(cls, hub.local(name, revision))

    def push_to_hub(self, name: str, private: bool = False, card: str | None = None) -> str:
        """Upload what `save_pretrained` writes, with a model card; returns the address.

        Args:
            name: owner/name on the hub.
            private: whether a repository that is made for it is seen by its owner alone.
            card: Markdown; by default a short one.

        Raises:
            UserError: the hub refuses, or cannot be reached.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            Path(folder, "README.md").write_text(card or hub.card(self, name), encoding="utf-8")
            return hub.upload(Path(folder), name, private)

    def _checked(self, x: Tensor) -> Tensor:
        expected = f"float images (batch, {self.channels}, height, width) in [-1, 1]"
        if x.ndim != 4 or x.shape[1] != self.channels or not x.is_floating_point():
            raise UserError(f"images: expected {expected}; got {x.dtype} {tuple(x.shape)}.")
        if x.shape[2] % self.stride or x.shape[3] % self.stride:
            raise UserError(
                f"images: expected height and width divisible by {self.stride}; got "
                f"{x.shape[2]}x{x.shape[3]}. Crop, pad or resize them."
            )
        return x


def _finite(values: Tensor, name: str) -> Tensor:
    """The values, where tokens or pixels may be made of them.

    Raises:
        UserError: some are not finite. In a compiled or exported graph nothing is checked.
    """
    if readable() and not values.isfinite().all():
        raise UserError(
            f"model: expected finite {name}; got nan or infinity. Its weights are damaged or "
            "diverged in training, or what it was given is not finite: load an earlier checkpoint."
        )
    return values
