"""What the paper prints, to stand beside what is measured.

Its numbers come from an implementation whose quantizer hands ‖z_e‖ to the decoder beside the code
(a reflection without rescaling), and whose evaluation moves the codebook. They are not the
distortion of 640 bits an image.
"""

from __future__ import annotations

from collections.abc import Mapping

Losses = Mapping[str, float]

INITIAL: Losses = {
    "loss": 0.1000,
    "reconstruction_loss": 0.0433,
    "codebook_loss": 0.0454,
    "perplexity": 17.95,
}
"""Table 2, row Initial: training metrics of the first epoch."""

_FINAL: Losses = {
    "loss": 0.0451,
    "reconstruction_loss": 0.0077,
    "codebook_loss": 0.0262,
    "perplexity": 317.6,
}
_MEDIUM: Losses = {
    "loss": 0.0475,
    "reconstruction_loss": 0.0092,
    "codebook_loss": 0.0306,
    "perplexity": 431.25,
}
TABLE2: Mapping[int, Losses] = {256: _FINAL, 512: _MEDIUM, 1024: _FINAL, 2048: _FINAL}
"""Table 2, rows Final, by codebook size: training metrics. Three of its four rows are one."""


def _row(values: tuple[float, float, float, float]) -> Losses:
    names = ("loss", "reconstruction_loss", "codebook_loss", "perplexity")
    return dict(zip(names, values, strict=True))


TABLE3: Mapping[float, Mapping[str, Losses]] = {
    beta: {"train": _row(train), "test": _row(test)}
    for beta, train, test in (
        (0.1, (0.0785, 0.0086, 0.0636, 628.84), (0.0776, 0.0094, 0.0620, 617.90)),
        (0.25, (0.0516, 0.0095, 0.0336, 281.29), (0.0529, 0.0102, 0.0342, 282.58)),
        (0.5, (0.0441, 0.0108, 0.0222, 126.93), (0.0441, 0.0116, 0.0217, 127.05)),
        (1.0, (0.0324, 0.0108, 0.0108, 132.34), (0.0326, 0.0114, 0.0106, 132.32)),
        (2.0, (0.0266, 0.0108, 0.0053, 117.23), (0.0273, 0.0114, 0.0053, 117.17)),
    )
}
"""Table 3 by β and split."""
