"""Draws docs/pictures/rotation.png: how gradients move on their way past the quantizer.

python docs/draw_rotation.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial import Voronoi, voronoi_plot_2d

from rotvq.quantization import ESTIMATORS, nearest
from rotvq.report import style

CODES = torch.tensor(
    [[1.0, 0.35], [0.25, 1.1], [-0.9, 0.75], [-1.0, -0.45], [-0.05, -1.0], [0.95, -0.8]]
)
TARGET = torch.tensor([1.9, 1.5])
"""The loss pulls every code towards this point."""

PANELS = {
    "straight_through": "straight-through: one arrow per cell",
    "rotation": "rotation: the arrow turns with z, and grows where z is short",
}


PICTURE = Path(__file__).parent / "pictures" / "rotation.png"


def main(path: Path = PICTURE) -> None:
    axis = torch.linspace(-1.55, 1.55, 20)
    z = torch.cartesian_prod(axis, axis)
    index = nearest(z, CODES)
    q = CODES[index]
    g = q - TARGET  # of ½‖q − target‖² at the code
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 5.2), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            leaf = z.clone().requires_grad_()
            ESTIMATORS[name](leaf, q).backward(g)
            assert leaf.grad is not None
            _draw(axes, z.numpy(), -leaf.grad.numpy(), index.numpy(), title)
        path.write_bytes(style.png(figure))


def _draw(axes: Axes, z: np.ndarray, step: np.ndarray, index: np.ndarray, title: str) -> None:
    far = 9 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    cells = Voronoi(np.concatenate([CODES.numpy(), far]))
    voronoi_plot_2d(
        cells, axes, show_points=False, show_vertices=False, line_colors=style.REFERENCE,
        line_width=1.0,
    )  # fmt: skip
    length = np.linalg.norm(step, axis=1, keepdims=True)
    shown = step / length * np.minimum(length, 4.0) ** 0.5 * 0.09
    colors = [style.color(i) for i in index]
    axes.quiver(*z.T, *shown.T, color=colors, angles="xy", scale_units="xy", scale=1, width=0.0035)
    axes.scatter(*CODES.numpy().T, s=70, c=[style.color(i) for i in range(len(CODES))],
                 edgecolors="black", zorder=3)  # fmt: skip
    axes.plot(0, 0, "+", color="black", markersize=9)
    axes.set(title=title, xlim=(-1.65, 1.65), ylim=(-1.65, 1.65), aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)


if __name__ == "__main__":
    main()
