"""Measure image codecs on CIFAR-10 test images at the rates of our tokens, and the Gaussian bound.

Three layouts: `mosaic` is one picture of 64x64 images; `frames` is a stream in which every image is
a key frame; `files` is a file for every image. Each codec runs at its slowest useful preset,
tuned for squared error and without chroma subsampling where it has the choice. A quality setting
applies to all images of a layout, so easy images take fewer bits than hard ones.

    apt-get install ffmpeg      # with libaom and libx265, as Debian builds it
    python benchmarks/codecs.py [--data data/cifar10] [--out results/codecs/cifar10.json]
    python benchmarks/codecs.py --bits 500 --codecs x265/mosaic AV1/mosaic --out FILE
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, _avif, features
from rate import Pictures, at, bracket, metrics, tiled, untiled

from rotvq.data_processing import load
from rotvq.evaluation.rate_distortion import gaussian_distortion, held_out_variances, variances
from rotvq.evaluation.ssim import GAUSSIAN, UNIFORM
from rotvq.files import write_json
from rotvq.training import environment

BITS = (640, 768)
"""Of 64 tokens with 1,024 and 4,096 codes."""
SIDE = 64
"""Images along each edge of the mosaic."""

LAYOUTS = {
    "mosaic": "the images as tiles of one picture of 64x64 images, in order. Favors the codec: "
    "headers count once, adaptive probabilities learn from all images before, and bits move from "
    "easy images to hard ones. Against it: prediction and filters cross the edges of the tiles",
    "frames": "every image a key frame of one stream, decoded without any other. Headers that are "
    "the same for all images are not counted; bits move from easy images to hard ones",
    "files": "a file for every image, headers included; bits move from easy images to hard ones",
}
PROTOCOL = {
    "bits_per_image": "8 times the bytes, divided by the number of images",
    "rate": "whole steps of the quality setting on both sides of the target are measured; the "
    "values at the target are interpolated over the logarithm of the rate, the MSE as logarithm",
    "mse": "mean squared error on [-1, 1] of the images in RGB, clipped; 10-bit output of a codec "
    "is not rounded to 8 bits",
    "psnr_per_image": "mean over images of each image's 10 log10(4 / mse), in dB",
    "ssim": GAUSSIAN,
    "ssim_uniform_7x7": UNIFORM,
    "color": "AV1 and x265: full-range BT.601 YCbCr of 10 bits, 4:4:4, converted in float64",
}

# The rows are Y, Cb and Cr of BT.601 (ITU-R BT.601-7, section 2.5; full range as in JPEG).
YCBCR = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.5],
        [0.5, -0.587 / 1.402, -0.114 / 1.402],
    ]
)
OFFSET = np.array([0.0, 128.0, 128.0])
PIXELS = "yuv444p10le"

Encoded = tuple[int, Pictures]
"""Bytes, and the decoded pictures."""


@dataclass(frozen=True)
class Codec:
    """A codec in one layout.

    Args:
        name: of the codec.
        layout: a key of LAYOUTS.
        options: of ffmpeg or Pillow.
        start: the place in LEVELS to begin the search with.
        encode: pictures at a level.
    """

    name: str
    layout: str
    options: str
    start: int
    encode: Callable[[Pictures, int], Encoded]


def with_pillow(pictures: Pictures, quality: int, *, kind: str, **options: Any) -> Encoded:
    """Encode every picture as a file of its own."""
    size, decoded = 0, []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind, quality=quality, **options)
        size += file.tell()
        decoded.append(np.asarray(Image.open(file).convert("RGB")))
    return size, np.stack(decoded)


def with_ffmpeg(
    pictures: Pictures, level: int, *, options: str, kind: str, counted: str = ""
) -> Encoded:
    """Encode pictures as the frames of one raw stream.

    Args:
        pictures: uint8.
        level: replaces LEVEL in the options.
        options: of ffmpeg's encoder.
        kind: of the stream.
        counted: types of the units whose bytes count; "" counts all.
    """
    height, width = pictures.shape[1:3]
    planes = ((pictures @ YCBCR.T + OFFSET) * 4).round().clip(0, 1023).astype("<u2")
    source = f"-f rawvideo -pix_fmt {PIXELS} -s {width}x{height} -color_range pc -i -"
    chosen = options.replace("LEVEL", str(level))
    raw = planes.transpose(0, 3, 1, 2).tobytes()
    stream = _ffmpeg(f"{source} -color_range pc {chosen} -f {kind} -", raw)
    pass_on = f"-f {kind} -i - -c copy -bsf:v filter_units=pass_types={counted} -f rawvideo -"
    size = len(_ffmpeg(pass_on, stream) if counted else stream)
    raw = _ffmpeg(f"-f {kind} -i - -f rawvideo -pix_fmt {PIXELS} -", stream)
    planes = np.frombuffer(raw, "<u2").reshape(len(pictures), 3, height, width)
    decoded = (planes.transpose(0, 2, 3, 1) / 4 - OFFSET) @ np.linalg.inv(YCBCR).T
    return size, decoded.clip(0, 255)


def _ffmpeg(options: str, given: bytes) -> bytes:
    command = ["ffmpeg", "-v", "error", *options.split()]
    return subprocess.run(command, input=given, check=True, stdout=subprocess.PIPE).stdout


X265 = (
    "-c:v libx265 -preset placebo -tune psnr -x265-params "
    "qp=LEVEL:keyint=1:info=0:log-level=error:pools=1:frame-threads=1"
)
AV1 = "-c:v libaom-av1 -threads 1 -crf LEVEL -tune psnr"


LEVELS = {
    "JPEG": range(1, 96),
    "WEBP": range(101),
    "AVIF": range(101),
    "x265": range(51, 0, -1),
    "AV1": range(63, 0, -1),
}
"""Values of the quality setting, from coarse to fine."""


def _pillow(name: str, layout: str, start: int, **options: Any) -> Codec:
    words = f"Pillow, {', '.join(f'{key}={value}' for key, value in options.items())}"
    return Codec(name, layout, words, start, partial(with_pillow, kind=name, **options))


def _stream(name: str, layout: str, start: int, options: str, counted: str = "") -> Codec:
    kind = {"x265": "hevc", "AV1": "obu"}[name]
    encode = partial(with_ffmpeg, options=options, kind=kind, counted=counted)
    return Codec(name, layout, options, start, encode)


JPEG: dict[str, Any] = {"subsampling": "4:4:4", "optimize": True}
AVIF: dict[str, Any] = {"subsampling": "4:4:4", "codec": "aom", "advanced": {"tune": "psnr"}}
"""Files only: as a mosaic, libavif's all-intra mode needs more bits than libaom through ffmpeg."""
CODECS = [
    _pillow("JPEG", "mosaic", 8, **JPEG, progressive=True),
    _pillow("WEBP", "mosaic", 8, method=6),
    _pillow("JPEG", "files", 0, **JPEG, progressive=False),
    _pillow("WEBP", "files", 0, method=6),
    _pillow("AVIF", "files", 0, **AVIF, speed=0),
    _stream("x265", "mosaic", 9, f"{X265}:no-deblock=1:no-sao=1"),
    # 16 to 21: slices of pictures that stand alone.
    _stream("x265", "frames", 9, X265, "16-21"),
    _stream("AV1", "mosaic", 16, f"{AV1} -cpu-used 0 -usage good -still-picture 1"),
    # 6: frames.
    _stream("AV1", "frames", 13, f"{AV1} -cpu-used 1 -usage good -lag-in-frames 0 -g 0", "6"),
]


def measured(
    codec: Codec, images: Pictures, singles: int, targets: Sequence[int]
) -> dict[str, Any]:
    """A codec at some rates, in bits per image, on a mosaic or on a number of single images."""
    mosaic = codec.layout == "mosaic"
    images = images[: SIDE**2 if mosaic else singles]
    levels = LEVELS[codec.name]

    @cache
    def run(place: int) -> dict[str, float]:
        level = levels[place]
        size, decoded = codec.encode(tiled(images, SIDE) if mosaic else images, level)
        decoded = untiled(decoded, SIDE) if mosaic else decoded
        found = {"level": level, "bits_per_image": 8 * size / len(images)}
        found |= metrics(decoded, images)
        print(codec.name, codec.layout, found, flush=True)
        return found

    def rate(place: int) -> float:
        return run(place)["bits_per_image"]

    rates: dict[str, Any] = {}
    for bits in targets:
        settings = [run(place) for place in bracket(rate, len(levels), codec.start, bits)]
        rates[str(bits)] = {"settings": settings}
        if len(settings) == 2:
            rates[str(bits)] |= at(bits, *settings)
    return {
        "codec": codec.name,
        "layout": codec.layout,
        "images": len(images),
        "options": codec.options,
        "bits": rates,
    }


def bounds(train: Any, test: Any, rates: Sequence[int]) -> dict[str, dict[str, float]]:
    """The Gaussian rate-distortion bound at some rates, in bits per image."""
    fitted, held_out = variances(train), held_out_variances(train, test)
    return {
        str(bits): {
            "training": gaussian_distortion(fitted, bits),
            "held_out": gaussian_distortion(held_out, bits),
        }
        for bits in rates
    }


def missing() -> str:
    """What has to be installed first."""
    if not shutil.which("ffmpeg"):
        return "ffmpeg: expected it on PATH; found none."
    encoders = _ffmpeg("-hide_banner -encoders", b"").decode()
    for name in ("libaom-av1", "libx265"):
        if name not in encoders:
            return f"ffmpeg: expected an encoder {name}; this build has none."
    for name in ("avif", "webp"):
        if not features.check(name):
            return f"Pillow: expected support for {name}; this build has none."
    return ""


def versions() -> dict[str, str]:
    """Of the encoders, as they report them."""

    def reported(encoder: str, pattern: str) -> str:
        source = "-f lavfi -i color=red:s=64x64:r=25:d=0.04"
        command = f"ffmpeg -v verbose {source} -c:v {encoder} -f null -"
        said = subprocess.run(command.split(), check=True, capture_output=True, text=True).stderr
        found = re.search(pattern, said)
        return found[1] if found else "unknown"

    first = _ffmpeg("-version", b"").decode().split()[2]
    names = {"libavif": "avif", "libwebp": "webp", "libjpeg-turbo": "libjpeg_turbo"}
    return {
        "ffmpeg": first,
        "libaom": reported("libaom-av1", r"libaom-av1 @ \w+\] v(\S+)"),
        "x265": reported("libx265", r"HEVC encoder version (\S+)"),
        "pillow": version("pillow"),
        **{name: str(features.version(key)) for name, key in names.items()},
        "libaom of libavif": re.search(r"aom \[enc\]:([^\s,]+)", _avif.codec_versions())[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="data/cifar10", help="CIFAR-10")
    parser.add_argument("--singles", type=int, default=1024, help="images in frames and files")
    parser.add_argument("--bits", type=int, nargs="+", default=BITS, help="rates, per image")
    named = {f"{codec.name}/{codec.layout}": codec for codec in CODECS}
    parser.add_argument("--codecs", nargs="+", choices=named, default=[*named])
    parser.add_argument("--out", type=Path, default=Path("results/codecs/cifar10.json"))
    options = parser.parse_args()
    if lack := missing():
        sys.exit(f"{lack} On Debian and Ubuntu: apt-get install ffmpeg; pip install -U pillow")
    git = environment.git_state()
    data = load(options.data)
    images = data.test.images.transpose(0, 2, 3, 1)
    record: dict[str, Any] = {
        "what": "image codecs on CIFAR-10 test images",
        "command": shlex.join(["python", *sys.argv]),
        "protocol": PROTOCOL,
        "layouts": LAYOUTS,
        "gaussian_bound": bounds(data.train.images, data.test.images, options.bits),
        "codecs": [],
        "data": {"name": data.name, "notes": data.notes},
        "hardware": environment.hardware(torch.device("cpu")),
        "versions": environment.versions() | versions(),
        "git": git,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.codecs:
        record["codecs"].append(measured(named[name], images, options.singles, options.bits))
        write_json(options.out, record)


if __name__ == "__main__":
    main()
