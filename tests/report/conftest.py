"""Run folders with smooth, plausible records and random pictures."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder under tmp_path; see `write_run`."""

    def make(name: str = "rotation", **changes: Any) -> Path:
        return write_run(tmp_path / name, **changes)

    return make


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """HTML files: the report of one run, of two and of 20."""
    from rotvq.report import write_report

    folder = tmp_path_factory.mktemp("reports")
    runs = [
        write_run(
            folder / f"{estimator}_with_{codes}_codes_and_quality_{quality}",
            estimator=estimator,
            codes=codes,
            quality=quality,
            epochs=3,
            side=32,
            command=f"rotvq train --quantizer.estimator {estimator} --out runs/of/a/long/name",
        )
        for estimator in ("rotation", "straight_through")
        for codes in (64, 1024)
        for quality in (0.8, 0.9, 1.0, 1.1, 1.2)
    ]
    chosen = {"one": runs[:1], "two": runs[4:6], "twenty": runs}
    return {name: write_report(some, folder / name) for name, some in chosen.items()}


def write_run(
    path: Path,
    *,
    estimator: str = "rotation",
    codes: int = 64,
    epochs: int = 8,
    quality: float = 1.0,
    used: float = 0.8,
    side: int = 16,
    columns: int = 16,
    fingerprint: str = "f00d",
    command: str = "rotvq train --quantizer.estimator rotation",
    metrics: Mapping[str, float] | None = None,
    evaluated: bool = True,
    codebook: Mapping[str, Any] | None = None,
) -> Path:
    """A finished run whose losses fall and whose usage rises with the epochs."""
    random = np.random.default_rng(0)
    (path / "reconstructions").mkdir(parents=True)
    config = {
        "data": {"source": "cifar10", "size": None},
        "model": {"channels": 3, "width": 64, "dim": 64, "depth": 2, "stages": 2},
        "quantizer": {"codebook_size": codes, "estimator": estimator, "decay": 0.99},
        "training": {"epochs": epochs, "batch_size": 128, "learning_rate": 0.0002, "seed": 0},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    bits = float(np.log2(codes)) * (side // 4) ** 2
    split = {"channels": 3, "height": side, "width": side, "fingerprint": fingerprint}
    run = {
        "format": 2,
        "rotvq": "0.1.0",
        "command": command,
        "started": "2025-01-02T03:04:05Z",
        "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.3.0"},
        "hardware": {"device": "cpu", "name": "AMD EPYC", "cores": 2, "threads": 2},
        "precision": "bf16",
        "git": {"commit": "0123abc", "dirty": False},
        "data": {
            "name": "CIFAR-10",
            "source": "official archive",
            "train": {"images": 49152, **split},
            "test": {"images": 9827, **split},
        },
        "model": {
            "parameters": 366000,
            "tokens": (side // 4) ** 2,
            "bits_per_image": bits,
            "bits_per_pixel": bits / side**2,
        },
    }
    (path / "run.json").write_text(json.dumps(run))
    originals = _blobs(random, 2 * columns, side)
    lines = []
    for n in range(1, epochs + 1):
        loss = (0.03 * np.exp(-n / 6) + 0.009) / quality * random.normal(1, 0.01)
        share = used * (1 - 0.6 * np.exp(-n / 5))
        test = {
            "loss": loss * 1.4,
            "reconstruction_loss": loss,
            "codebook_loss": loss * 1.5,
            "commitment_loss": loss * 1.1,
            "perplexity": codes * share * 0.7,
            "usage": share,
            "psnr": 10 * np.log10(4 / loss),
        }
        train = {k: v * 0.97 for k, v in test.items() if k != "psnr"}
        timing = {"train_seconds": 90.0, "test_seconds": 9.0, "images_per_second": 550.0 + n}
        epoch = {"epoch": n, "images": 49152, "train": train, "test": test, "timing": timing}
        if codebook:
            epoch["codebook"] = codebook
        lines.append(json.dumps(epoch) + "\n")
        blur = max(1, round(side / 8 * np.exp(-n / epochs) / quality))
        save_grid(path / "reconstructions" / f"epoch_{n:04}.png", originals, _blur(originals, blur))
    (path / "epochs.jsonl").write_text("".join(lines))
    if evaluated:
        counts = (1e5 * np.exp(-5 * np.arange(codes) / codes)).astype(int)
        counts[int(used * codes) :] = 0
        measured = {
            "mse": loss,
            "psnr": test["psnr"],
            "psnr_per_image": test["psnr"] + 0.6,
            "ssim": 0.9,
            "loss": test["loss"],
            "codebook_loss": test["codebook_loss"],
            "commitment_loss": test["commitment_loss"],
            "perplexity": test["perplexity"],
            "usage": float(np.mean(counts > 0)),
            "codes_used": int(np.count_nonzero(counts)),
            "bits_per_image": bits,
            "bits_per_pixel": bits / side**2,
        } | dict(metrics or {})
        measured.setdefault("forward_mse", measured["mse"])
        evaluation = {
            "format": 2,
            "split": "test",
            "images": 9827,
            "metrics": measured,
            "protocol": {
                "images": "Decoded from the indices alone.",
                "ssim": "Gaussian window of 11 pixels, sigma 1.5, data range 1.",
            },
            "counts": random.permutation(counts).tolist(),
        }
        (path / "evaluation.json").write_text(json.dumps(evaluation))
    return path


def save_grid(file: Path, originals: np.ndarray, reconstructions: np.ndarray) -> None:
    """Two pairs of rows, originals above reconstructions; both (n, h, w, 3) uint8."""
    rows = [
        np.concatenate(list(tiles), axis=1)
        for pair in zip(np.split(originals, 2), np.split(reconstructions, 2), strict=True)
        for tiles in pair
    ]
    Image.fromarray(np.concatenate(rows)).save(file)


def _blobs(random: np.random.Generator, n: int, side: int) -> np.ndarray:
    """Images of a colored disc before a colored gradient."""
    y, x = np.mgrid[0:side, 0:side] / side
    sky, disc = random.uniform(0, 255, (2, n, 1, 1, 3))
    center, radius = random.uniform(0.3, 0.7, (2, n, 1, 1)), random.uniform(0.1, 0.4, (n, 1, 1))
    inside = (x - center[0]) ** 2 + (y - center[1]) ** 2 < radius**2
    return np.where(inside[..., None], disc, sky * (1 - y[..., None] / 2)).astype(np.uint8)


def _blur(images: np.ndarray, radius: int) -> np.ndarray:
    shifts = [np.roll(images, s, a) for a in (1, 2) for s in range(-radius, radius + 1)]
    return np.mean(shifts, axis=0).astype(np.uint8)
