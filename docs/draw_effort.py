"""Draws docs/pictures/effort.png: a detail of the cat, from the nearest codes and searched for.

python docs/draw_effort.py
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import rotvq
from rotvq.report import style

PICTURES = Path(__file__).parent / "pictures"
DETAIL = (96, 48, 224, 144)
"""Left, upper, right and lower edge in cat_original.jpg."""
EFFORTS = (0, 4, 9)


def main() -> None:
    with Image.open(PICTURES / "cat_original.jpg") as photograph:
        detail = photograph.crop(DETAIL)
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 4.2), layout="constrained")
        panels = iter(figure.subplots(2, 1 + len(EFFORTS)).flat)
        for name in ("rotvq-f4", "rotvq-f8"):
            model = rotvq.VQVAE.from_pretrained(name)
            shown = {f"original, {name}": detail} | {
                f"effort {n}: {psnr(detail, image):.1f} dB": image
                for n in EFFORTS
                for image in rotvq.decode_images(
                    model, rotvq.encode_images(model, [detail], effort=n)
                )
            }
            for title, image in shown.items():
                axes = next(panels)
                axes.imshow(np.asarray(image))
                axes.set(title=title)
                axes.axis("off")
        (PICTURES / "effort.png").write_bytes(style.png(figure))


def psnr(a: Image.Image, b: Image.Image) -> float:
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return 10 * np.log10(255**2 / np.square(difference).mean())


if __name__ == "__main__":
    main()
