"""The layout of the peer's layers with a fixed grid: projections and several codes per vector."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError


class Codes(nn.Module):
    """Splits channels among codebooks of the same kind, and puts the codes together again.

    Args:
        width: channels of each code.
        dim: channels of the input; None for those of the codes.
        num_codebooks: number of codes for each vector.
        keep_dim: whether indices have a dimension for the codebooks; None if there are several.
        channel_first: whether the channels are at dimension 1; None with four dimensions or more.

    Raises:
        UserError: several codebooks, and no dimension for them.
    """

    def __init__(
        self,
        width: int,
        dim: int | None,
        num_codebooks: int,
        keep_dim: bool | None,
        channel_first: bool | None,
    ) -> None:
        super().__init__()
        self.keep_num_codebooks_dim = num_codebooks > 1 if keep_dim is None else keep_dim
        if num_codebooks > 1 and not self.keep_num_codebooks_dim:
            raise UserError(
                "keep_num_codebooks_dim: expected True with several codebooks; got False."
            )
        self.num_codebooks = num_codebooks
        self.codebook_dim = width
        self.dim = width * num_codebooks if dim is None else dim
        self.channel_first = channel_first

    def project(self, bias: bool, always: bool | None = None) -> None:
        """Linear layers around the codes, if their channels are not those of the input."""
        width = self.codebook_dim * self.num_codebooks
        self.has_projections = self.dim != width if always is None else always
        self.project_in: nn.Module = nn.Identity()
        self.project_out: nn.Module = nn.Identity()
        if self.has_projections:
            self.project_in = nn.Linear(self.dim, width, bias=bias)
            self.project_out = nn.Linear(width, self.dim, bias=bias)

    def split(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... c d"]:
        """The vectors of each codebook."""
        first = self._is_first(x.ndim)
        channels = x.shape[1 if first else -1]
        if channels != self.dim:
            raise UserError(
                f"x: expected {self.dim} channels at dimension {1 if first else -1}; got shape "
                f"{tuple(x.shape)}. Set dim or channel_first."
            )
        z: Tensor = self.project_in(x.movedim(1, -1) if first else x)
        return z.unflatten(-1, (self.num_codebooks, self.codebook_dim))

    def join(
        self, codes: Float[Tensor, "... c d"], x: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Codes in the layout of x."""
        out: Tensor = self.project_out(codes.flatten(-2))
        return out.movedim(-1, 1) if self._is_first(x.ndim) else out

    def joined_indices(self, indices: Int64[Tensor, "... c"]) -> Int64[Tensor, "..."]:
        """Indices as the layer returns them."""
        return indices if self.keep_num_codebooks_dim else indices.squeeze(-1)

    def indices_to_codes(
        self, indices: Int64[Tensor, "..."], project_out: bool = True
    ) -> Float[Tensor, "..."]:
        """The output of `forward` for those indices, or the codes without the projection."""
        if not self.keep_num_codebooks_dim:
            indices = indices.unsqueeze(-1)
        codes = self.codes(indices).flatten(-2)
        dtype = next((p.dtype for p in self.project_out.parameters()), torch.float32)
        out: Tensor = self.project_out(codes.to(dtype)) if project_out else codes
        return out.movedim(-1, 1) if self._is_first(indices.ndim) else out

    def codes(self, indices: Int64[Tensor, "... c"]) -> Float[Tensor, "... c d"]:
        """The codes of each codebook."""
        raise NotImplementedError

    def _is_first(self, ndim: int) -> bool:
        return ndim >= 4 if self.channel_first is None else self.channel_first
