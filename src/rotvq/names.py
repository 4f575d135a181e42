"""Names in configurations, files and `--help`, free of torch; the functions behind them follow."""

from typing import Literal

EstimatorName = Literal[
    "rotation",
    "straight_through",
    "rotation_without_rescaling",
    "rescaling",
    "lifted_rotation",
    "reflection",
]
"""Functions in `rotvq.quantization.estimators`."""

UpdateName = Literal["ema", "gradient", "linear"]
"""`UPDATES` in `rotvq.quantization.updates`, in this order."""

NetworkName = Literal["paper", "patches", "attention"]
"""`NETWORKS` in `rotvq.model.vqvae`, in this order."""
