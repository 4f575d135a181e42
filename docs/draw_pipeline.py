"""Draws docs/pictures/pipeline.svg: a detail of the cat on its way through the model `rotvq-f4`.

python docs/draw_pipeline.py
"""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rotvq import VQVAE
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.tokens.code_pictures import code_pictures

PICTURES = Path(__file__).parent / "pictures"
PICTURE = PICTURES / "pipeline.svg"
DETAIL = (128, 64, 224, 160)
"""An eye of the cat: left, upper, right and lower edge in cat_original.jpg."""
TOKENS = 6
"""Tokens on a side of the detail."""
SIDE, GAP, TOP, ROW = 132, 104, 26, 236
"""Of the panels: side, space between columns, upper edge, distance of the rows."""

STYLE = """
text { font: 15px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; fill: #1b1d21; }
.small { font-size: 12px; fill: #565c67; } .token { font-size: 8.8px; text-anchor: middle; }
.step { text-anchor: middle; } image { image-rendering: pixelated; }
.way { stroke: #1b1d21; fill: none; stroke-width: 1.6; } .tip { fill: #1b1d21; }
.back { stroke: #b34700; fill: none; stroke-width: 2; stroke-dasharray: 6 4; }
.gradient { fill: #b34700; } .grid { stroke: #9aa0ab; fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e7e9; } .small { fill: #a6acb7; }
  .way { stroke: #e6e7e9; } .tip { fill: #e6e7e9; }
  .back { stroke: #f0a35e; } .gradient { fill: #f0a35e; }
}
"""


def main(path: Path = PICTURE) -> None:
    model = VQVAE.from_pretrained("rotvq-f4").eval()
    with Image.open(PICTURES / "cat_original.jpg") as photograph:
        side = TOKENS * model.stride
        detail = np.asarray(photograph.crop(DETAIL).resize((side, side), Image.Resampling.LANCZOS))
    x = normalized(torch.from_numpy(detail.copy()).permute(2, 0, 1)[None])
    with torch.no_grad():
        indices, z_e = model.encode(x, return_latents=True)
        z_q = model.quantizer.lookup(indices)
        z_q = z_q if z_q.shape == z_e.shape else z_q.movedim(-1, 1)
        decoded = to_uint8(model.decode(indices))[0].permute(1, 2, 0).numpy()
        codes = code_pictures(model, 0)[:: 1024 // 64].permute(0, 2, 3, 1).numpy()
    tiles = np.pad(codes[:, 2:-2, 2:-2].repeat(4, 1).repeat(4, 2), ((0, 0), (1, 1), (1, 1), (0, 0)))
    sheet = tiles.reshape(8, 8, 18, 18, 3).swapaxes(1, 2).reshape(144, 144, 3)
    path.write_text(drawing(detail, *in_colors(z_e, z_q), indices[0].numpy(), sheet, decoded))


def in_colors(z_e: Tensor, z_q: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first three principal components of z_e as red, green and blue, and z_q alike."""
    rows, columns = z_e.shape[2:]
    a, b = (z[0].flatten(1).T.double() for z in (z_e, z_q))
    axes = torch.linalg.svd(a - a.mean(0), full_matrices=False).Vh[:3].T
    shown = [(z - a.mean(0)) @ axes for z in (a, b)]
    spread = shown[0].std(0)
    a, b = (
        (127.5 + 60 * z / spread).clamp(0, 255).round().byte().reshape(rows, columns, 3)
        for z in shown
    )
    return a.numpy(), b.numpy()


def drawing(
    image: NDArray[np.uint8],
    latents: NDArray[np.uint8],
    quantized: NDArray[np.uint8],
    tokens: NDArray[np.int64],
    codebook: NDArray[np.uint8],
    decoded: NDArray[np.uint8],
) -> str:
    """The SVG: encoding from left to right above, decoding from right to left below."""
    left, middle, right = (column * (SIDE + GAP) for column in range(3))
    above, below = TOP, TOP + ROW
    half, low = SIDE / 2, TOP + SIDE
    parts = [
        panel(left, above, "image", image), panel(middle, above, "latents", latents),
        panel(right, above, "tokens", None), integers(right, above, tokens),
        panel(left, below, "reconstruction", decoded), panel(middle, below, "codes", quantized),
        panel(right, below, "codebook", codebook),
        arrow(left + SIDE, above + half, GAP, 0, "encoder"),
        arrow(middle + SIDE, above + half, GAP, 0, "nearest", "code"),
        arrow(right + half, low, 0, ROW - SIDE - 20), label(right + half + 10, low + 42, "look up"),
        arrow(right, below + half, -GAP, 0),
        arrow(middle, below + half, -GAP, 0, "decoder"),
        f'<path class="back" marker-end="url(#turn)" d="M {middle + half} {below - 22} '
        f'V {low + 8}"/>',
        label(middle + half + 12, low + 38, "gradient,", "gradient"),
        label(middle + half + 12, low + 56, "rotated", "gradient"),
    ]  # fmt: skip
    width, height = right + SIDE + 1, below + SIDE + 1
    tips = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path class="{kind}" d="M0 0L8 4L0 8z"/>'
        "</marker>"
        for name, kind in (("tip", "tip"), ("turn", "gradient"))
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {width + 1} {height}" '
        f'width="{1.2 * width:.0f}" height="{1.2 * height:.0f}">\n'
        f"<style>{STYLE}</style>\n<defs>{tips}</defs>\n{body}\n</svg>\n"
    )


def panel(x: float, y: float, name: str, pixels: NDArray[np.uint8] | None) -> str:
    """A picture with its name above."""
    frame = f'<rect class="grid" x="{x}" y="{y}" width="{SIDE}" height="{SIDE}"/>'
    if pixels is not None:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        data = b64encode(buffer.getvalue()).decode()
        frame = (
            f'<image x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" '
            f'href="data:image/png;base64,{data}"/>{frame}'
        )
    return label(x, y - 8, name) + frame


def integers(x: float, y: float, tokens: NDArray[np.int64]) -> str:
    """The grid of tokens as numbers."""
    cell = SIDE / len(tokens)
    return "".join(
        f'<text class="token" x="{x + (column + 0.5) * cell:.1f}" '
        f'y="{y + (row + 0.5) * cell + 3.2:.1f}">{token}</text>'
        for (row, column), token in np.ndenumerate(tokens)
    )


def arrow(x: float, y: float, right: float, down: float, *words: str) -> str:
    """From (x, y), with space at both ends; words above a horizontal one, then below."""
    ends = [(8 if step > 0 else -8 if step < 0 else 0) for step in (right, down)]
    line = (
        f'<path class="way" marker-end="url(#tip)" d="M {x + ends[0]} {y + ends[1]} '
        f'L {x + right - ends[0]} {y + down - ends[1]}"/>'
    )
    places = zip(words, (y - 10, y + 22), strict=False)
    return line + "".join(label(x + right / 2, at, word, "step") for word, at in places)


def label(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{text}</text>'


if __name__ == "__main__":
    main()
