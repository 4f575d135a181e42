"""ICC profiles written from scratch, and what their colors are in sRGB, in float64."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# Chromatically adapted to D50, as profiles have them: columns are red, green and blue.
ADOBE = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
ADOBE_GAMMA = 2.19921875


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(np.array([0.9642, 1.0, 0.8249])),
        **tags,
    }
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    size = struct.pack(">I", start + len(data))
    head = size + b"\0\0\0\0" + b"\x02\x10\0\0" + b"mntr" + space + b"XYZ " + b"\0" * 12 + b"acsp"
    head = head.ljust(68, b"\0") + b"".join(map(_fixed, (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + table + data


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def adobe_rgb() -> bytes:
    columns = {name: _xyz(ADOBE[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = {name: _curve(ADOBE_GAMMA) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", columns | curves)


def gray(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


def _encoded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = linear.clip(0, 1)
    curve = 1.055 * linear ** (1 / 2.4) - 0.055
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, curve)


def adobe_in_srgb(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(…, 3) of Adobe RGB in sRGB, 0 to 255."""
    xyz = (pixels / 255) ** ADOBE_GAMMA @ ADOBE.T
    return _encoded(xyz @ np.linalg.inv(SRGB).T)


def gray_in_srgb(pixels: NDArray[np.uint8], gamma: float) -> NDArray[np.float64]:
    return _encoded((pixels / 255) ** gamma)
