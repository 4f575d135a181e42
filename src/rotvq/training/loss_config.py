"""The loss options of a run's configuration. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from rotvq.names import PixelLossName
from rotvq.training.checks import check_fields, require


@dataclass(frozen=True)
class LossConfig:
    """Losses.

    Args:
        beta: weight β of the commitment loss.
        entropy_weight: weight of the entropy loss, which encourages even use of the codes; 0
            disables it.
        pixel_loss: "mse", or "l1" for the mean absolute error.
        perceptual: network of the perceptual loss: a folder written by rotvq classifier, the file
            of an LPIPS network, or "lpips" to download that file.
        perceptual_weight: weight of the perceptual loss; 0 disables it.
        adversarial_weight: weight of the adversarial loss, whose discriminator is trained together
            with the model; 0 disables both.
        adversarial_start: share of the run before the adversarial loss begins.
    """

    beta: float = 0.25
    entropy_weight: float = 0.0
    pixel_loss: PixelLossName = "mse"
    perceptual: str | None = None
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_start: float = 0.25

    def __post_init__(self) -> None:
        check = partial(check_fields, self, "training")
        weights = ("beta", "entropy_weight", "perceptual_weight", "adversarial_weight")
        check("0 or more", lambda weight: 0 <= weight < math.inf, *weights)
        check("0 to below 1", lambda share: 0 <= share < 1, "adversarial_start")
        named = self.perceptual is not None or not self.perceptual_weight
        wanted = "a classifier's folder or an LPIPS network, with a perceptual_weight"
        require(named, "training.perceptual", wanted, "null")
