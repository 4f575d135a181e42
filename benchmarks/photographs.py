"""Measure a model on photographs beside JPEG, WebP and AVIF at the same bits per pixel.

The photographs are those in scikit-image's wheel, which the bundled models never see in training.
Prints a table, and writes NAME.json and NAME.png with crops side by side.

    pip install scikit-image
    python benchmarks/photographs.py MODEL [--efforts 0 4] [--out results/photographs]
"""

from __future__ import annotations

import argparse
import io
import shlex
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from rate import at, metrics

from rotvq.cli.coding import load_model
from rotvq.evaluation.ssim import GAUSSIAN, UNIFORM
from rotvq.files import write_bytes, write_json
from rotvq.model import VQVAE
from rotvq.names import DEFAULT_EFFORT
from rotvq.report import style
from rotvq.tokens.coding import decode, encode
from rotvq.training import environment

Pixels = NDArray[np.uint8]
"""(h, w, 3)."""

CROP = 128
SHOWN = {
    "astronaut": (60, 160),
    "cat": (80, 110),
    "coffee": (180, 250),
    "motorcycle": (180, 250),
    "rocket": (40, 290),
}
"""Everyday photographs, and the top and left of the part in the figure."""

CODECS: dict[str, dict[str, Any]] = {
    "JPEG": {"subsampling": "4:2:0", "optimize": True},
    "WEBP": {"method": 6},
    "AVIF": {"codec": "aom", "speed": 4, "advanced": {"tune": "psnr"}},
}
"""Options of Pillow."""
QUALITIES = range(1, 96)

PROTOCOL = {
    "bits_per_pixel": "of the model: its tokens at fixed length, without a header; of the codecs: "
    "8 times the bytes of the file, divided by the number of pixels",
    "rate": "the quality settings on both sides of the model's rate are measured; the values at "
    "the rate are interpolated over the logarithm of the rate, the MSE as logarithm",
    "psnr_per_image": "10 log10(4 / mse) in dB, mse on [-1, 1] of the 8-bit RGB image",
    "ssim": GAUSSIAN,
    "ssim_uniform_7x7": UNIFORM,
    "mean": "the mean over the five everyday photographs, and over all eight",
}
COLUMNS = {"psnr_per_image": 2, "ssim": 4, "ssim_uniform_7x7": 4}
"""Metrics in tables, and their decimals."""


class Coded(NamedTuple):
    """A picture after a codec: its metrics, and the pixels to show."""

    metrics: dict[str, Any]
    pixels: Pixels


def photographs() -> dict[str, Pixels]:
    """The color photographs in scikit-image's wheel; everyday ones first."""
    from skimage import data

    return {
        "astronaut": data.astronaut(),
        "cat": data.cat(),
        "coffee": data.coffee(),
        "motorcycle": data.stereo_motorcycle()[0],
        "rocket": data.rocket(),
        "galaxies": data.hubble_deep_field(),
        "retina": data.retina(),
        "tissue": data.immunohistochemistry(),
    }


def with_model(model: VQVAE, pixels: Pixels, effort: int) -> Coded:
    """A photograph decoded from its tokens."""
    start = time.perf_counter()
    tokens = encode(model, [("", np.ascontiguousarray(pixels.transpose(2, 0, 1)))], effort=effort)
    encoded = time.perf_counter()
    ((_, decoded),) = decode(model, tokens)
    seconds = {"encode_s": encoded - start, "decode_s": time.perf_counter() - encoded}
    found = np.ascontiguousarray(decoded.transpose(1, 2, 0))
    return Coded(metrics(found[None], pixels[None]) | seconds, found)


def with_codec(name: str, pixels: Pixels, quality: int) -> tuple[float, Pixels]:
    """Bits of a file, header included, and what it decodes to."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, quality=quality, **CODECS[name])
    return 8.0 * file.tell(), np.asarray(Image.open(file).convert("RGB"))


def around(bits: Callable[[int], float], levels: Sequence[int], target: float) -> list[int]:
    """The last level below a rate and the first that reaches it, by bisection.

    Args:
        bits: rate of a level; grows with the level.
        levels: in ascending order.
        target: rate.

    Returns:
        Two neighbors, or one level alone at either end.
    """
    place = bisect_left(levels, target, key=bits)
    return [*levels[max(0, place - 1) : place + 1]]


def at_rate(name: str, pixels: Pixels, target: float) -> Coded:
    """A photograph after a codec of Pillow, at a number of bits."""
    run = cache(lambda quality: with_codec(name, pixels, quality))
    settings = []
    for quality in around(lambda quality: run(quality)[0], QUALITIES, target):
        bits, decoded = run(quality)
        found = {"quality": quality, "bits_per_image": bits}
        settings.append(found | metrics(decoded[None], pixels[None]))
    nearest = min(settings, key=lambda each: abs(each["bits_per_image"] - target))
    values = at(target, *settings) if len(settings) == 2 else nearest
    return Coded({**values, "settings": settings}, run(nearest["quality"])[1])


def measured(model: VQVAE, pixels: Pixels, efforts: Sequence[int]) -> dict[str, Coded]:
    """A photograph after the model at each effort, and after each codec at the same bits."""
    bits = tokens_bits(model, pixels)
    found = {f"effort {effort}": with_model(model, pixels, effort) for effort in efforts}
    return found | {name: at_rate(name, pixels, bits) for name in CODECS}


def tokens_bits(model: VQVAE, pixels: Pixels) -> float:
    """Bits of a picture's tokens at fixed length."""
    rows, columns = (-(-side // model.stride) for side in pixels.shape[:2])
    sizes = model.quantizer.codebook_sizes
    return rows * columns * sum(float(np.log2(size)) for size in sizes)


def means(pictures: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Mean metrics of each coder over pictures."""
    coders = next(iter(pictures.values()))
    return {
        coder: {key: fmean(each[coder][key] for each in pictures.values()) for key in COLUMNS}
        for coder in coders
    }


def table(pictures: dict[str, dict[str, dict[str, Any]]], key: str) -> str:
    """A metric of each picture and coder, and its means, in Markdown."""
    everyday = {name: each for name, each in pictures.items() if name in SHOWN}
    rows = pictures | {"mean of everyday": means(everyday)} | {"mean of all": means(pictures)}
    coders = [*next(iter(pictures.values()))]
    lines = [f"| {key} | {' | '.join(coders)} |", "|---" * (len(coders) + 1) + "|"]
    for name, found in rows.items():
        values = (f"{found[coder][key]:.{COLUMNS[key]}f}" for coder in coders)
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def draw(originals: dict[str, Pixels], coded: dict[str, dict[str, Coded]], path: Path) -> None:
    """Crops of the everyday photographs: the original, the model at most effort, the codecs."""
    shown = [name for name in SHOWN if name in coded]
    last = [coder for coder in coded[shown[0]] if coder not in CODECS][-1]
    columns = ["original", last, *CODECS]
    with style.look():
        figure = Figure(figsize=(style.WIDTH, 2.15 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), len(columns), squeeze=False)
        for row, name in zip(axes, shown, strict=True):
            top, left = SHOWN[name]
            for axis, coder in zip(row, columns, strict=True):
                one = coded[name].get(coder)
                pixels = originals[name] if one is None else one.pixels
                axis.imshow(pixels[top : top + CROP, left : left + CROP], interpolation="nearest")
                axis.set_axis_off()
                note = name if one is None else f"{one.metrics['psnr_per_image']:.1f} dB"
                axis.set_title(f"{coder.removeprefix(name)}: {note}")
        content = io.BytesIO()
        figure.savefig(content, dpi=style.DPI)
        write_bytes(path, content.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a run folder, a saved model, or owner/name on the Hub")
    parser.add_argument("--efforts", type=int, nargs="+", default=[0, DEFAULT_EFFORT])
    parser.add_argument("--name", help="of the files (default: that of the model)")
    parser.add_argument("--out", type=Path, default=Path("results/photographs"))
    options = parser.parse_args()
    name = options.name or Path(options.model).name
    model, originals = load_model(options.model), photographs()
    coded: dict[str, dict[str, Coded]] = {}
    for title, pixels in originals.items():
        coded[title] = measured(model, pixels, options.efforts)
        values = {
            coder: round(each.metrics["psnr_per_image"], 2) for coder, each in coded[title].items()
        }
        print(title, pixels.shape, values, flush=True)
    pictures = {
        title: {coder: each.metrics for coder, each in found.items()}
        for title, found in coded.items()
    }
    everyday = {title: pictures[title] for title in SHOWN}
    record = {
        "what": "a model on the color photographs in scikit-image's wheel, beside image codecs",
        "command": shlex.join(["python", *sys.argv]),
        "protocol": PROTOCOL,
        "model": {"name": name, "bits_per_token": tokens_bits(model, originals["cat"][:1, :1])},
        "codecs": CODECS,
        "sizes": {
            title: {
                "height": pixels.shape[0],
                "width": pixels.shape[1],
                "bits": tokens_bits(model, pixels),
            }
            for title, pixels in originals.items()
        },
        "pictures": pictures,
        "mean_of_everyday": means(everyday),
        "mean_of_all": means(pictures),
        "hardware": environment.hardware(next(model.parameters()).device),
        "versions": environment.versions(),
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"{name}.json", record)
    draw(originals, coded, options.out / f"{name}.png")
    for key in COLUMNS:
        print("", table(pictures, key), sep="\n")


if __name__ == "__main__":
    main()
