"""Sums over a training epoch: those of the evaluation, and of the additional losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rotvq.evaluation.metrics import Totals
from rotvq.model import VQVAEOutput


class TrainingTotals(Totals):
    """Running sums on the device, including those of additional losses.

    Args:
        names: names of the additional losses.
        codebook_sizes: as in `Totals`.
        dim: channels of z_e.
        device: where the sums are kept.
    """

    def __init__(
        self,
        names: Sequence[str],
        codebook_sizes: Sequence[int],
        dim: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(codebook_sizes, dim, device)
        self.names = [*names]
        self.losses = torch.zeros(len(names), device=device, dtype=self.sums.dtype)

    @torch.no_grad()
    def add_all(
        self, output: VQVAEOutput, losses: dict[str, Float[Tensor, ""]], counts: Bool[Tensor, ""]
    ) -> None:
        """Add one batch, unless `counts` is False."""
        self.add(output, counts)
        if self.names:
            values = torch.stack([losses[name] for name in self.names]).to(self.losses.dtype)
            self.losses += (values * len(output.indices)).where(counts, 0)

    @property
    def mean_losses(self) -> dict[str, float]:
        """The means of the additional losses so far, by name; nan before the first batch."""
        means = self.losses / self.sums[4]
        return dict(zip(self.names, means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, to be saved in the middle of an epoch."""
        return super().state_dict() | ({"losses": self.losses} if self.names else {})
