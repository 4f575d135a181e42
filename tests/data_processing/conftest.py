"""Small datasets in the layouts that the package reads, written from scratch."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def _string(value: bytes) -> bytes:
    short = len(value) < 256
    return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<I", len(value))) + value


def _integer(n: int) -> bytes:
    return b"K" + bytes([n]) if 0 <= n < 256 else b"J" + struct.pack("<i", n)


def _array(a: NDArray[np.uint8], code: bytes = b"u1") -> bytes:
    dtype = b"cnumpy\ndtype\n" + _string(code) + _integer(0) + _integer(1) + b"\x87R"
    dtype += b"(" + _integer(3) + _string(b"|") + b"NNN" + _integer(-1) * 2 + _integer(0) + b"tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _integer(0) + b"\x85"
    made += _string(b"b") + b"\x87R"
    shape = _integer(a.shape[0]) + _integer(a.shape[1]) + b"\x86"
    return made + b"(" + _integer(1) + shape + dtype + b"\x89" + _string(a.tobytes()) + b"tb"


def official(rows: NDArray[np.uint8], labels: list[int], code: bytes = b"u1") -> bytes:
    """A batch with the opcodes that Python 2 wrote: byte-string keys, NumPy's _reconstruct."""
    items = b"](" + b"".join(map(_integer, labels)) + b"e"
    pairs = _string(b"labels") + items + _string(b"data") + _array(rows, code)
    return b"\x80\x02}(" + pairs + b"u."


def pixels(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def write_official() -> Callable[..., bytes]:
    return official


@pytest.fixture
def random_rows() -> Callable[..., NDArray[np.uint8]]:
    return pixels


@pytest.fixture
def to_png() -> Callable[[NDArray[np.uint8]], bytes]:
    return png


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    """A partial `cifar-10-batches-py`: batch i holds i + 1 images, all with the label i."""
    folder = tmp_path / "cifar" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for i, name in enumerate(BATCHES):
        (folder / name).write_bytes(official(pixels(i + 1, seed=i), [i] * (i + 1)))
    return folder
