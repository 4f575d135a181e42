"""The readers of untrusted files, and valid files to start fuzzing from."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image
from runs import render_report, unpack, whole_runs
from sealed import repacked, sealed

from rotvq.data_processing.decoding import Encoded, Findings, decoded
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.sources import open_source
from rotvq.data_processing.unpickle import read_batch
from rotvq.evaluation.metrics import Totals
from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer
from rotvq.tokens import file as token_file
from rotvq.tokens.collection import Codec, Packer
from rotvq.training import checkpoint
from rotvq.training.checkpoint_check import load_checked
from rotvq.training.config import Config
from rotvq.training.folder import read_config
from rotvq.training.optimizer import moments

MEMORY = Path("/dev/shm")
TARGET = Target((8, 8))


def _cifar(path: Path) -> None:
    read_batch(path.read_bytes(), path.name)


def _image(path: Path) -> None:
    for _ in decoded([Encoded(path.name, path.read_bytes())], TARGET, Findings()):
        pass


def _data(path: Path) -> None:
    open_source(str(path.parent), TARGET).load(TARGET)


def _tokens(path: Path) -> None:
    for _ in token_file.load_tokens(path).batches(8):
        pass


def _resumed(path: Path) -> None:
    fresh, optimizer = _run_state(0)
    load_checked(path, fresh, moments(optimizer), steps=1, batch_size=8)


def _model(path: Path) -> None:
    VQVAE.from_pretrained(path.parent)


READERS: dict[str, Callable[[Path], object]] = {
    "data_batch_1": _cifar,
    "image.png": _image,
    "image.jpg": _image,
    "image.webp": _image,
    "image.tiff": _image,
    "train-0.tar": _data,
    "train-0.parquet": _data,
    "tokens.npz": _tokens,
    "tokens.safetensors": _tokens,
    "tokens.parquet": _tokens,
    "checkpoint.pt": checkpoint.load,
    "checkpoint.pkl": _resumed,
    "config.yaml": lambda path: read_config(path.parent),
    "config.json": _model,
    "model.safetensors": _model,
    "run": render_report,
}


def place(name: str) -> Path:
    """A folder (in memory where possible) with the other files that the reader needs."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    if READERS[name] is _model:
        _small_model().save_pretrained(folder)
    return folder


def finished(content: bytes, name: str) -> bytes:
    """A fuzzed file with a valid checksum, so that its reader gets to the content."""
    if name == "checkpoint.pkl":  # everything in a checkpoint except tensor data
        content = repacked(_whole_checkpoint(), {"data.pkl": content})
    return sealed(content) if name.startswith("checkpoint") else content


def put(path: Path, content: bytes) -> None:
    """Write a fuzzed input where its reader expects it: a file or a run folder."""
    if path.name == "run":
        unpack(content, path)
    else:
        path.write_bytes(finished(content, path.name))


def whole(name: str) -> list[bytes]:
    """Valid files for a reader."""
    folder = place(name)
    try:
        return [*_MAKERS[name](folder / name)]
    finally:
        shutil.rmtree(folder)


def _small_model() -> VQVAE:
    return VQVAE(width=8, dim=4, depth=1, quantizer=VectorQuantizer(8, 4, channel_dim=1))


def pictures(kind: str, **options: object) -> list[bytes]:
    draw = np.random.default_rng(0)
    made = []
    for mode, shape in (("RGB", (12, 10, 3)), ("L", (9, 9)), ("RGBA", (8, 8, 4))):
        file = io.BytesIO()
        image = Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8))
        if kind == "JPEG" and mode == "RGBA":
            image = image.convert("CMYK")
        image.save(file, kind, **options)
        made.append(file.getvalue())
    return made


def _batches(path: Path) -> Iterator[bytes]:
    rows = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    for protocol in (2, 4):
        yield pickle.dumps({b"data": rows, b"labels": [3, 9]}, protocol)


def _shards(path: Path) -> Iterator[bytes]:
    made = pictures("PNG")
    with tarfile.open(path, "w") as archive:
        for number in range(12):
            members = ((".png", made[number % 3]), (".cls", b"%d" % number), (".txt", b"text"))
            for suffix, content in members:
                entry = tarfile.TarInfo(f"{number:03d}{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    yield path.read_bytes()


def _tables(path: Path) -> Iterator[bytes]:
    made = pictures("PNG")
    images = [{"bytes": made[i % 3], "path": str(i)} for i in range(12)]
    for compression in ("none", "zstd"):
        texts = [f"caption {i}" for i in range(12)]
        table = pa.table({"img": images, "label": [i % 3 for i in range(12)], "text": texts})
        pq.write_table(table, path, compression=compression)
        yield path.read_bytes()


def _token_files(path: Path) -> Iterator[bytes]:
    packer = Packer(Codec("0123456789abcdef", (1000,), 4, 3))
    draw = np.random.default_rng(0)
    for number, size in (("a", (8, 8)), ("b", (8, 8)), ("c", (6, 17))):
        grid = packer.codec.grid(size)
        indices = draw.integers(0, 1000, (1, *grid))
        packer.add(indices, size, [number], [len(number)], [f"caption {number}"])
    token_file.save_tokens(packer.tokens(), path)
    yield path.read_bytes()


def _run_state(steps: int) -> tuple[checkpoint.Checkpoint, torch.optim.Optimizer]:
    """The state of a small run after `steps` epochs of one step each, and its optimizer."""
    torch.manual_seed(0)
    model = _small_model()
    optimizer = torch.optim.Adam(model.parameters())
    position = checkpoint.Position()
    for number in range(1, steps + 1):
        model(torch.rand(8, 3, 8, 8)).loss(0.25).backward()
        optimizer.step()
        numbers = {"loss": 1.0, "seconds": 2}
        record = {"epoch": number, "images": 8 * number, "codebook": {"spread": (0.0, 1.0)}}
        position.history.append(record | dict.fromkeys(("train", "test", "timing"), numbers))
        position = replace(position, epoch=number, images=8 * number)
    state = checkpoint.Checkpoint(
        model.state_dict(), None, optimizer.state_dict(), {}, torch.get_rng_state(),
        Totals([8], 4).state_dict(), position,
    )  # fmt: skip
    return state, optimizer


@cache
def _whole_checkpoint() -> bytes:
    """A valid checkpoint without its checksum."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        checkpoint.save(path, _run_state(2)[0])
        return path.read_bytes()[: -hashlib.sha256().digest_size]


def _checkpoints(path: Path) -> Iterator[bytes]:
    yield _whole_checkpoint()


def _pickles(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(_whole_checkpoint())) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        yield archive.read(name)


def _configs(path: Path) -> Iterator[bytes]:
    for config in (
        Config(),
        Config().replace(quantizer={"levels": "8,5,5,5", "codebook_size": 1000}),
    ):
        yield yaml.safe_dump(asdict(config), sort_keys=False).encode()


def _models(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()


_MAKERS: dict[str, Callable[[Path], Iterable[bytes]]] = {
    "data_batch_1": _batches,
    "image.png": lambda path: pictures("PNG"),
    "image.jpg": lambda path: pictures("JPEG"),
    "image.webp": lambda path: pictures("WEBP"),
    "image.tiff": lambda path: pictures("TIFF", compression="tiff_lzw"),
    "train-0.tar": _shards,
    "train-0.parquet": _tables,
    "tokens.npz": _token_files,
    "tokens.safetensors": _token_files,
    "tokens.parquet": _token_files,
    "checkpoint.pt": _checkpoints,
    "checkpoint.pkl": _pickles,
    "config.yaml": _configs,
    "config.json": _models,
    "model.safetensors": _models,
    "run": whole_runs,
}
