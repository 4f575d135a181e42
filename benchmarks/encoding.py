"""Encoding a dataset to shards, beside the model alone on a tensor in memory; and reading tokens.

The dataset is one Parquet file of PNGs. Besides wall time, which other work on the machine
disturbs, the record has the processor time of the process with the model and that of the workers
that decode images. Adds a row to encoding_cpu.json (or _cuda).

    python benchmarks/encoding.py PRESET --data SOURCE [--images N] [--workers N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rotvq import TokenDataset
from rotvq.data_processing import load
from rotvq.data_processing.pictures import open_pictures
from rotvq.data_processing.resizing import Target
from rotvq.evaluation.evaluate import batches, evaluating
from rotvq.files import write_json
from rotvq.model import VQVAE
from rotvq.tokens.bulk import Totals, encode_shards
from rotvq.tokens.model_codec import codec
from rotvq.tokens.shards import Shards, prepare, recipe
from rotvq.training import environment
from rotvq.training.build import build_model
from rotvq.training.presets import PRESETS

BATCH, SHARD, DIFFERENT, TIMED = 128, 10_000, 2048, 10_000
"""Images in a batch, in a shard, different ones in the dataset, and for the model alone."""
READ_SECONDS = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("preset", choices=PRESETS, help="the model, untrained")
    parser.add_argument("--data", required=True, help="data source, as for rotvq train")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    torch.manual_seed(0)
    device = environment.default_device()
    model = build_model(PRESETS[options.preset]).to(device)
    images = torch.from_numpy(load(options.data).train.images[:DIFFERENT])
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "images.parquet"
        write_parquet(source, images, options.images)
        alone = model_alone(model, images.to(device), min(TIMED, options.images))
        encoded = shards(model, source, Path(place) / "tokens", options.workers)
        tokens_per_second = reading(Path(place) / "tokens")
    row = {
        "preset": options.preset,
        "images": options.images,
        "side": images.shape[-1],
        "workers": options.workers,
        "model_alone": alone,
        "shards": encoded,
        "speed_ratio": {
            # The model's process is what bounds the speed if workers have cores of their own.
            "worker_cores_free": alone["cpu_us"] / encoded["cpu_us"],
            "all_cores_busy": alone["cpu_us"] / (encoded["cpu_us"] + encoded["worker_cpu_us"]),
            "wall": alone["wall_us"] / encoded["wall_us"],
        },
        "tokens_read_per_cpu_second": tokens_per_second,
        "hardware": environment.hardware(device),
        "versions": environment.versions(),
        "git": environment.git_state(),
    }
    print(json.dumps(row, indent=1))
    path = options.out / f"encoding_{device.type}.json"
    what = "encoding a Parquet file to shards; times per image in microseconds"
    record = json.loads(path.read_text()) if path.exists() else {"what": what, "rows": []}
    key = ("preset", "images", "workers")
    record["rows"] = [each for each in record["rows"] if any(each[k] != row[k] for k in key)]
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(path, record | {"rows": [*record["rows"], row]})


def write_parquet(path: Path, images: torch.Tensor, n: int) -> None:
    """PNGs of the images, over and over, in row groups of 1,000."""
    cells = []
    for pixels in images.permute(0, 2, 3, 1).numpy():
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("label", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, 1000):
            rows = range(start, min(start + 1000, n))
            column = pa.array([cells[row % len(cells)] for row in rows], kind)
            writer.write_table(pa.table({"image": column, "label": [*rows]}, schema=schema))


def model_alone(model: VQVAE, images: torch.Tensor, n: int) -> dict[str, float]:
    """Time per image of encoding n images that are in memory."""
    with evaluating(model), torch.no_grad():
        model.encode(next(batches(images, BATCH, model)))
        cpu, wall, done = time.process_time(), time.perf_counter(), 0
        while done < n:
            for x in batches(images[: n - done], BATCH, model):
                model.encode(x).cpu()
                done += len(x)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_us": 1e6 * cpu / n, "wall_us": 1e6 * wall / n}


def shards(model: VQVAE, source: Path, folder: Path, workers: int) -> dict[str, Any]:
    """Times per image of encoding a source to shards, and peaks of memory."""
    sys.modules["__main__"] = ModuleType("__main__")  # workers import neither this file nor torch
    reader, target = open_pictures([str(source)], None, Target()), Target()
    made = recipe(codec(model), 0, reader.count, reader.fingerprint(), SHARD, ".safetensors")
    some, totals = Shards(folder, made), Totals()
    prepare(some, overwrite=False)
    n, before = reader.count, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, wall = time.process_time(), time.perf_counter()
    peak, batch = 0, 0

    def look(images: int) -> None:
        # getrusage would count what a worker shared with this process when it started.
        nonlocal peak, batch
        batch += 1
        if batch % 64 == 8:
            children = psutil.Process().children(recursive=True)
            peak = max(peak, *(child.memory_info().rss for child in children))

    numbers, options = range(len(some)), {"batch_size": BATCH, "workers": workers}
    encode_shards(model, reader, target, some, numbers, totals, progress=look, **options)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    of_workers = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_us": 1e6 * cpu / n,
        "worker_cpu_us": 1e6 * of_workers / n,
        "wall_us": 1e6 * wall / n,
        "peak_mib": own.ru_maxrss / 1024,
        "peak_mib_of_a_worker": peak / 2**20,
        "bytes": sum(os.path.getsize(some.path(number)) for number in numbers),
    }


def reading(folder: Path) -> dict[str, float]:
    """Tokens per second of processor time through a DataLoader, in order and shuffled."""
    dataset, speeds = TokenDataset(folder), {}
    for shuffle in (False, True):
        for size in (128, 1024):
            tokens, since = 0, time.process_time()
            while (spent := time.process_time() - since) < READ_SECONDS / 4:
                for indices, _, _ in DataLoader(dataset, size, shuffle=shuffle):
                    tokens += indices.numel()
            name = f"{'shuffled' if shuffle else 'in order'}, batches of {size}"
            speeds[name] = tokens / spent
    return speeds


if __name__ == "__main__":
    main()
