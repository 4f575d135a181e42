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

MetricName = Literal["euclidean", "cosine"]
"""Functions in `rotvq.quantization.metrics`."""

CodesName = Literal["learned", "lookup_free", "spherical"]
"""Learned, or else one of `BINARY` in `rotvq.quantization.lookup_free`, in this order."""

NetworkName = Literal["paper", "patches", "attention"]
"""`NETWORKS` in `rotvq.model.networks`, in this order."""

PixelLossName = Literal["mse", "l1"]
"""`PIXEL_LOSSES` in `rotvq.training.objective`, in this order."""

TuneName = Literal["psnr", "ssim"]
"""`TUNES` in `rotvq.evaluation.ssim`, in this order."""

EFFORTS = (0, 2, 4, 6, 10, 16, 25, 40, 65, 100)
"""Iterations of the search for better tokens (`rotvq.model.token_search`) at efforts 0 to 9."""

DEFAULT_EFFORT = 4
"""Effort of a search if none is given: from here on, less error takes disproportionate time."""
