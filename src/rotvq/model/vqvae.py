"""The paper's VQ-VAE: encoder → vector quantizer → decoder."""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.model.blocks import NormalizedLatents
from rotvq.model.effort import check_searched, iterations
from rotvq.model.error_functions import ErrorFunction, squared_error
from rotvq.model.level_search import LevelSearch
from rotvq.model.levels import first_levels
from rotvq.model.networks import NETWORKS
from rotvq.model.objective import Rate, free_of_charge
from rotvq.model.output import VQVAEOutput
from rotvq.model.pretrained import PretrainedModel
from rotvq.quantization import Quantizer, VectorQuantizer
from rotvq.quantization.tensors import readable

MAX_STAGES = 8
"""With 8 stages, one token already covers 256x256 pixels."""


class VQVAE(PretrainedModel):
    """Images to tokens and back.

    The defaults are the paper's: K = 1024 codes of D = 256, an 8×8 grid for a 32×32 image.

    Args:
        channels: image channels; 3 or 1 for pictures and token files.
        width: channels of the residual blocks.
        dim: D, the length of a code.
        depth: residual blocks on each side.
        stages: how many times height and width are halved, at most 8.
        quantizer: a quantizer of any kind with this dim and channel_dim=1. The default is a
            `VectorQuantizer` with 1024 codes, the rotation trick and EMA updates with γ = 0.99.
        network: architecture of encoder and decoder, one of `NETWORKS`.
        normalized_latents: scale each z_e to length √D before it is quantized.

    Raises:
        UserError: a size below 1, more than 8 stages, an unknown network, or a quantizer with
            another dim or channel_dim.

    Examples:
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
        if stages > MAX_STAGES:
            raise UserError(
                f"model.stages: expected at most {MAX_STAGES}; got {stages}. Each stage halves "
                "height and width, so one token would cover more pixels than fit in memory."
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
                f"quantizer: expected dim={dim} and channel_dim=1; got dim={length} and "
                f"channel_dim={channel_dim}."
            )

    def forward(
        self, x: Float[Tensor, "b c h w"], indices: Int64[Tensor, "b i j *levels"] | None = None
    ) -> VQVAEOutput:
        """Reconstruct images and compute the losses.

        Args:
            x: images in [-1, 1], with height and width divisible by 2**stages.
            indices: tokens to decode, as from `encode` with an effort (see `Quantizer.assigned`);
                None for the nearest codes.

        Raises:
            UserError: images of another shape or dtype.
        """
        z_e = self.encoder(self._checked(x))
        if indices is None:
            quantized = self.quantizer(z_e)
        else:
            quantized = self.quantizer.assigned(z_e, indices)
        reconstruction = self.decoder(quantized.z_q)
        latents, dim = z_e.detach(), (0, 2, 3)
        compared = self.quantizer.compared(latents).float()
        return VQVAEOutput(
            reconstruction,
            quantized.indices,
            latents,
            F.mse_loss(reconstruction.float(), x.float()),
            quantized.codebook_loss,
            quantized.commitment_loss,
            quantized.entropy_loss,
            torch.stack([compared.mean(dim), compared.var(dim, correction=0)]),
        )

    @overload
    def encode(
        self,
        x: Float[Tensor, "b c h w"],
        return_latents: Literal[False] = False,
        *,
        effort: int = 0,
        error: ErrorFunction = squared_error,
        rate: Rate = free_of_charge,
        levels: int | None = None,
    ) -> Int64[Tensor, "b i j *levels"]: ...

    @overload
    def encode(
        self,
        x: Float[Tensor, "b c h w"],
        return_latents: Literal[True],
        *,
        effort: int = 0,
        error: ErrorFunction = squared_error,
        rate: Rate = free_of_charge,
        levels: int | None = None,
    ) -> tuple[Int64[Tensor, "b i j *levels"], Float[Tensor, "b d i j"]]: ...

    @torch.no_grad()
    def encode(
        self,
        x: Float[Tensor, "b c h w"],
        return_latents: bool = False,
        *,
        effort: int = 0,
        error: ErrorFunction = squared_error,
        rate: Rate = free_of_charge,
        levels: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Encode images in [-1, 1] as indices in [0, k), −1 where a scale has no token.

        `rotvq.quantization.distances` compares the latents with the codes.

        Args:
            x: images in [-1, 1], with height and width divisible by 2**stages.
            return_latents: also return z_e, the encoder's output before quantization.
            effort: 0 to 9. 0 takes the code nearest to each latent vector. Higher efforts start
                from these codes and search for others that decode to a smaller error; they take
                more time (see `names.EFFORTS`), and no image gets worse.
            error: what a search lowers: a function (reconstruction, x) -> error of each image,
                shape (b,), differentiable with respect to the reconstruction.
            rate: what tokens cost, which a search lowers together with the error, such as a
                `rotvq.generation.PriorRate`; by default nothing.
            levels: how many levels of a residual quantizer to use; None for all.

        Returns:
            Indices (batch, rows, columns), followed by the quantizer's `index_shape`, which is one
            dimension for a `ResidualQuantizer` or `GroupedQuantizer`.

        Raises:
            UserError: as in `forward`; images or weights are not finite; an effort outside 0 to
                9; an error function that does not fit; or more levels than there are.
        """
        z_e = _finite(self.encoder(self._checked(x)), "latents")
        for codebook in self.quantizer.codebooks:
            _finite(codebook.embeddings, "codes")
        indices = first_levels(self.quantizer, self.quantizer.encode(z_e), levels)
        check_searched(effort, error is not squared_error or rate is not free_of_charge)
        if iterations(effort):  # a search cannot be exported
            indices = LevelSearch(self, effort, levels)(x, indices, error, rate=rate)
        return (indices, z_e) if return_latents else indices

    @torch.no_grad()
    def decode(
        self, indices: Int64[Tensor, "b i j *levels"], levels: int | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Decode indices to images in [-1, 1]; `decode(encode(x))` is the forward reconstruction.

        Args:
            indices: in the shape that `encode` returns; −1 decodes as a vector of zeros.
            levels: how many levels of a residual quantizer to use; None for all that there are.

        Raises:
            UserError: indices of another shape, or not int64 in [−1, k); more levels than there
                are; or weights are not finite.
        """
        more = "".join(f", {n}" for n in self.quantizer.index_shape)
        if indices.ndim != 3 + len(self.quantizer.index_shape):
            raise UserError(
                f"indices: expected shape (batch, rows, columns{more}); got {tuple(indices.shape)}."
            )
        codes = self.quantizer.lookup(first_levels(self.quantizer, indices, levels))
        # In the precision that the quantizer's output has in a forward pass.
        device = codes.device.type
        inside = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if inside else next(self.parameters()).dtype
        return _finite(self.decoder(codes.to(dtype)), "pixels")

    def _checked(self, x: Tensor) -> Tensor:
        expected = f"float images (batch, {self.channels}, height, width) in [-1, 1]"
        remedy = "Use x.float() / 127.5 - 1, or rotvq.encode_images for pixels of 8 bits."
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise UserError(f"images: expected {expected}; got {kind}. {remedy}")
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise UserError(f"images: expected {expected}; got {x.dtype} {tuple(x.shape)}.")
        if x.shape[2] % self.stride or x.shape[3] % self.stride:
            raise UserError(
                f"images: expected height and width divisible by {self.stride}; got "
                f"{x.shape[2]}x{x.shape[3]}. Crop, pad or resize them."
            )
        return x


def _finite(values: Tensor, name: str) -> Tensor:
    """Return the values, which tokens or pixels are made of.

    Raises:
        UserError: some are not finite. Nothing is checked in a compiled or exported graph.
    """
    if readable() and not values.isfinite().all():
        raise UserError(
            f"model: expected finite {name}; got nan or infinity. The weights are damaged or "
            "diverged in training, or the input is not finite: load an earlier checkpoint."
        )
    return values
