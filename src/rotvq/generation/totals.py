"""The code length of tokens under a prior, summed up batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Means:
    """Means over the images seen so far.

    Args:
        loss: negative log-likelihood of a token in nats; all its indices together.
        bits_per_token: the same in bits: the rate of an ideal entropy coder with this prior.
        bits_per_image: mean over images.
    """

    loss: float
    bits_per_token: float
    bits_per_image: float


class Totals:
    """Running sums on the device; the host waits for them only when they are read.

    Args:
        indices_of_token: as in `Vocabulary`.
        device: of the sums.
    """

    def __init__(self, indices_of_token: int, device: torch.device | str = "cpu") -> None:
        self.indices_of_token = indices_of_token
        wide = torch.float32 if torch.device(device).type == "mps" else torch.float64
        # Nats, indices, images.
        self.sums = torch.zeros(3, device=device, dtype=wide)

    @torch.no_grad()
    def add(
        self,
        nats: Float[Tensor, "b l"],
        real: Bool[Tensor, "b l"],
        counts: Bool[Tensor, ""] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            nats: of each index, 0 for padding.
            real: False for padding.
            counts: False to leave the batch out, decided on the device.
        """
        images = torch.tensor(len(nats), device=nats.device)
        new = torch.stack([t.to(self.sums.dtype) for t in (nats.sum(), real.sum(), images)])
        self.sums += new if counts is None else new.where(counts, 0)

    def means(self) -> Means:
        """The means so far; nan before the first batch."""
        nats, indices, images = self.sums.tolist()
        tokens = indices / self.indices_of_token
        loss = nats / tokens if tokens else math.nan
        bits = nats / math.log(2)
        return Means(loss, loss / math.log(2), bits / images if images else math.nan)

    def reduce(self) -> None:
        """Sum over all processes, if there are several."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.sums)

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, to be saved in the middle of an epoch."""
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from the sums of `state_dict`."""
        self.sums.copy_(state["sums"])
