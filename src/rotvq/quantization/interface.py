"""What every quantizer offers, and what its forward pass returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.codebook import Codebook


@dataclass(frozen=True, eq=False)
class Quantized:
    """The result of a quantizer's forward pass.

    Registered as a pytree, so that `torch.compile`, `torch.export`, `torch.func` and the
    distributed wrappers handle it like a tuple of tensors.

    Attributes:
        z_q: the codes, in z's shape and dtype, with the estimator's gradient for z.
        indices: int64 in [0, k), −1 where masked or left out by quantizer dropout. Shape of z
            without its channels, followed by the quantizer's `index_shape`.
        commitment_loss: mean of (z − sg[q])² over elements, float32, not yet multiplied by β
            (eq. 6).
        codebook_loss: mean of (sg[z] − q)² over elements, float32. It has a gradient only where
            the codebook is learned by gradient.
        entropy_loss: log k − H of the soft use of the codes in this batch, in nats, float32; of
            binary codes E[H(p)] + d log 2 − H(p̄) (see `rotvq.quantization.entropy`). 0 unless
            requested, and in evaluation.
    """

    z_q: Float[Tensor, "..."]
    indices: Int64[Tensor, "..."]
    commitment_loss: Float[Tensor, ""]
    codebook_loss: Float[Tensor, ""]
    entropy_loss: Float[Tensor, ""]

    def loss(self, beta: float = 0.25, entropy_weight: float = 0.0) -> Float[Tensor, ""]:
        """codebook_loss + β·commitment_loss + entropy_weight·entropy_loss (eqs. 6, 7)."""
        paper = self.codebook_loss + beta * self.commitment_loss
        return paper + entropy_weight * self.entropy_loss


torch.export.register_dataclass(Quantized, serialized_type_name="rotvq.Quantized")


class Quantizer(nn.Module):
    """The base class of all quantizers.

    Attributes:
        dim: number of channels of z.
        channel_dim: the dimension of z that holds them.
        index_shape: dimensions that `indices` has for each vector: () for a single index.
        defer_update: whether the codebooks wait for `update_codebook()` instead of taking a step
            in every training forward pass.
    """

    dim: int
    channel_dim: int
    index_shape: tuple[int, ...] = ()
    defer_update: bool

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes for each index of a vector, flattened in the order of `index_shape`."""
        raise NotImplementedError

    @property
    def codebook_size(self) -> int:
        """Number of codes k; of several codebooks, that of the largest."""
        return max(self.codebook_sizes)

    @property
    def residual_levels(self) -> int:
        """Number of levels that refine each other, the last dimension of `index_shape`; else 1.

        `lookup` also takes the indices of the first few levels.
        """
        return 1

    @property
    def codebooks(self) -> tuple[Codebook, ...]:
        """The codebooks that can move, a shared one once. A fixed grid has none."""
        return tuple(module for module in self.modules() if isinstance(module, Codebook))

    @property
    def tables(self) -> tuple[Float[Tensor, "k d"], ...]:
        """Codes for each index of a vector, float32: the rows it chooses add up to its code.

        In the order of `codebook_sizes`. Channels that an index does not code are zeros.
        """
        raise NotImplementedError

    def forward(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Quantized:
        """Quantize.

        Args:
            z: (..., d), or with the channels at `channel_dim`; any floating dtype.
            mask: in the shape of z without its channels, True where a token counts. Masked
                tokens get zeros and index −1, and have no effect on anything else.

        Raises:
            UserError: z or mask of another shape or dtype.
        """
        raise NotImplementedError

    def assigned(self, z: Float[Tensor, "..."], indices: Int64[Tensor, "..."]) -> Quantized:
        """Quantize to given codes, such as those of a search, instead of the nearest ones.

        The gradient of z_q goes to z, straight through, and to the codes, if they are learned by
        gradient; codes that are moving averages stay where they are.

        Args:
            z: as in `forward`.
            indices: of the codes, without −1.

        Raises:
            UserError: as in `forward` and `lookup`; or the indices are of another shape.
        """
        q = self.lookup(indices)
        work = self._estimated(z).float()
        if q.shape != work.shape:
            raise UserError(
                f"indices: expected those of vectors of shape {tuple(work.shape)}; got those of "
                f"{tuple(q.shape)}. Pass the indices of this input."
            )
        zero = torch.zeros((), device=z.device)
        return Quantized(
            # The difference is 0, so the value is that of the code.
            (q + (work - work.detach())).to(z.dtype),
            indices,
            F.mse_loss(work, q.detach()),
            F.mse_loss(work.detach(), q),
            zero,
        )

    def encode(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> Int64[Tensor, "..."]:
        """The indices alone; nothing changes. Arguments and errors as in `forward`."""
        raise NotImplementedError

    def lookup(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The codes of indices, float32, channels at `channel_dim`; zeros for −1.

        Raises:
            UserError: indices of another shape or dtype, or out of range.
        """
        raise NotImplementedError

    def compared(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """z as it is compared with codes, in its layout: at unit length for cosine codes."""
        return z

    def _estimated(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """z as the gradient estimator sees it, in its layout."""
        return z

    def update_codebook(self) -> None:
        """Update every codebook with all vectors since its last step."""
        raise NotImplementedError

    def initialize_codebook(
        self, z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None
    ) -> None:
        """Place the codes by k-means over z, as `init="data"` does with the first batch."""
        raise NotImplementedError
