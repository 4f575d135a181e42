"""Folders of finished studies in the real format, with plausible numbers; and pixels of figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from rotvq import run_folder
from rotvq.files import to_json
from rotvq.studies import ablations, paper, results
from rotvq.studies.curves import GUIDANCE, TEMPERATURES, curve
from rotvq.studies.milestones import CODEBOOK, milestone
from rotvq.studies.plan import Run, make_plan
from rotvq.studies.study import Suite

MakeResults = Callable[..., results.Results]
SIDE, COLUMNS = 8, 4
BOUND = 0.0123
CLASSIFIER = {
    "accuracy_original": 0.85,
    "accuracy_reconstruction": 0.4,
    "agreement": 0.42,
    "frechet_distance": 30.0,
}
LAYERS = ("encoder.0", "encoder.2.first", "decoder.0.first", "decoder.1")


@pytest.fixture
def make_results(tmp_path: Path) -> MakeResults:
    """Write the records of a plan into tmp_path / name and read them; see `write_results`."""

    def make(name: str = "studies", **changes: Any) -> results.Results:
        return write_results(tmp_path / name, **changes)

    return make


@pytest.fixture
def pixels() -> Callable[[bytes], np.ndarray]:
    """A PNG as (height, width, 3) uint8."""
    return lambda png: np.asarray(Image.open(BytesIO(png)).convert("RGB"))


@pytest.fixture
def count(pixels) -> Callable[[bytes, str], int]:
    """How many pixels of a PNG have a color, as "#0072B2"."""

    def counted(png: bytes, color: str) -> int:
        value = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        return int((pixels(png) == value).all(axis=-1).sum())

    return counted


def write_results(
    out: Path,
    *,
    suite: Suite = paper.SUITE,
    preset: str = "smoke",
    studies: Iterable[str] | None = None,
    variants: Sequence[str] = (),
    seeds: int | None = None,
    values: Callable[[Run], Mapping[str, float]] = lambda run: {},
    used: float = 0.6,
    classifier: Callable[[Run], Mapping[str, float]] | None = None,
) -> results.Results:
    """Finish the runs of a plan and read them.

    Args:
        out: folder of all records.
        suite, preset, studies, variants, seeds: as in `make_plan`.
        values: metrics of a run at the end of its training that replace the invented ones,
            wherever they are recorded; nan is written as null.
        used: share of the codes in use at the end, 0 to 1; in t-SNE, of every epoch.
        classifier: the classifier's metrics of a run (of estimators or sharp pictures) that replace
            those of CLASSIFIER; None leaves the measurement out.
    """
    plan = []
    chosen = {"studies": studies, "variants": variants, "seeds": seeds}
    for run in make_plan(suite, preset, out, **chosen):
        others = tuple(name for name in run.measures if name != "classifier_metrics")
        wanted = classifier is not None and run.study in ("estimators", "sharp")
        run = replace(run, measures=(*others, "classifier_metrics") if wanted else others)
        if not run.trained:
            place = list(suite.studies[run.study].variants).index(run.variant)
            _write_run(run, {**_metrics(run, place, used), **values(run)})
        for name in run.missing:
            _write(run, f"{name}.json", _measure(name, run, used, classifier))
        plan.append(run)
    return results.read(plan)


def _metrics(run: Run, place: int, used: float) -> dict[str, float]:
    """Of the last epoch, a little different for every variant and seed."""
    size = run.config.quantizer.codebook_size
    loss = 0.02 * (1 + 0.05 * place) * (1 + 0.01 * run.seed)
    usage = min(1.0, used * (1 + 0.01 * run.seed))
    codebook = 0.002 / run.config.training.beta
    return {
        "loss": loss + codebook * (1 + run.config.training.beta),
        "reconstruction_loss": loss,
        "codebook_loss": codebook,
        "commitment_loss": codebook,
        "perplexity": max(1.0, 0.7 * usage * size),
        "batch_perplexity": max(1.0, 0.6 * usage * size),
        "usage": usage,
        "psnr": 10 * math.log10(4 / loss),
        "psnr_per_image": 10 * math.log10(4 / loss) + 0.5,
        "ssim": 0.8 - 0.01 * place,
        "mse": loss * (1.5 if "reflection" in run.variant.name else 1),
        "forward_mse": loss,
        "codes_used": round(usage * size),
        "bits_per_image": 4.0 * math.log2(size),
        "bits_per_pixel": 4.0 * math.log2(size) / SIDE**2,
    }


EVALUATED = (
    "mse", "forward_mse", "psnr", "psnr_per_image", "ssim", "loss", "codebook_loss",
    "commitment_loss", "perplexity", "usage", "codes_used", "bits_per_image", "bits_per_pixel",
)  # fmt: skip
LOSSES = ("loss", "reconstruction_loss", "codebook_loss", "commitment_loss")


def _write_run(run: Run, metrics: Mapping[str, float]) -> None:
    training, size = run.config.training, run.config.quantizer.codebook_size
    (run.folder / "reconstructions").mkdir(parents=True)
    (run.folder / "config.yaml").write_text(yaml.safe_dump(asdict(run.config), sort_keys=False))
    split = {"channels": 3, "height": SIDE, "width": SIDE, "fingerprint": "f00d"}
    _write(
        run,
        "run.json",
        {
            "rotvq": "0.1.0",
            "command": f"rotvq reproduce {run.study}",
            "started": "2025-01-02T03:04:05Z",
            "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.3.0"},
            "hardware": {"device": "cpu", "name": "AMD EPYC", "cores": 2, "threads": 2},
            "precision": "bf16",
            "git": {"commit": "0123abc", "dirty": False},
            "data": {
                "name": "photographs",
                "source": run.config.data.source,
                "train": {"images": 512, **split},
                "test": {"images": 128, **split},
            },
            "model": {
                "parameters": 366000,
                "tokens": 4,
                "bits_per_image": metrics["bits_per_image"],
                "bits_per_pixel": metrics["bits_per_pixel"],
            },
        },
    )
    lines, norms = [], {}
    for n in range(1, training.epochs + 1):
        left = (training.epochs - n) / training.epochs  # of the way
        now = {k: v * (1 + 3 * left if k in LOSSES else 1 - left / 2) for k, v in metrics.items()}
        test = {k: now[k] for k in (*LOSSES, "perplexity", "usage", "psnr")}
        tested = n % training.test_every == 0 or n == training.epochs
        train = {k: 0.97 * now[k] for k in (*LOSSES, "perplexity", "batch_perplexity", "usage")}
        timing = {"train_seconds": 9.0, "test_seconds": 1.0, "images_per_second": 550.0}
        epoch = {"epoch": n, "images": 512 * n, "train": train, "test": test if tested else {}}
        lines.append(to_json({**epoch, "timing": timing}) + "\n")
        norms[str(n)] = {
            f"{layer}.{kind}": 0.0 if (layer, n) == ("encoder.0", 1) else 0.01 * (at + left + 0.1)
            for at, layer in enumerate(LAYERS)
            for kind in ("weight", "bias")
        }
        if tested:
            pixels = np.arange(4 * SIDE * COLUMNS * SIDE * 3) * (2 * n + 1) % 256
            picture = pixels.reshape(4 * SIDE, COLUMNS * SIDE, 3).astype(np.uint8)
            Image.fromarray(picture).save(run.folder / "reconstructions" / f"epoch_{n:04d}.png")
    (run.folder / "epochs.jsonl").write_text("".join(lines))
    _write(run, "gradients.json", {"epochs": norms})
    evaluation = {
        "split": "test",
        "images": 128,
        "metrics": {k: metrics[k] for k in EVALUATED},
        "protocol": {"mse": "decoded from the indices alone"},
        "counts": _uses(size, metrics["codes_used"]),
        "seconds": 1.0,
    }
    _write(run, "evaluation.json", evaluation)


def _measure(
    name: str, run: Run, used: float, classifier: Callable[[Run], Mapping[str, float]] | None
) -> dict[str, Any]:
    if name == "classifier_metrics" and classifier:
        metrics = {**CLASSIFIER, **classifier(run)}
        return {"images": 128, "metrics": metrics, "protocol": {"accuracy": "of a classifier"}}
    if name == "best":
        evaluation = json.loads((run.folder / "evaluation.json").read_text())
        return {key: value for key, value in evaluation.items() if key != "format"}
    if name == "bound":
        return {"metrics": {"bits_per_image": 640.0, "gaussian_distortion": BOUND}}
    if name == "generation":
        place = list(ablations.SUITE.studies["priors"].variants).index(run.variant)
        return {"metrics": _generated(place, run.config.quantizer.codebook_size)}
    assert name == "tsne", name
    size, epochs = run.config.quantizer.codebook_size, run.config.training.epochs
    points = np.random.default_rng(0).normal(0, 20, (size, 2)).round(4).tolist()
    uses = _uses(size, round(used * size))
    at = [milestone(epoch, epochs) for epoch in CODEBOOK]
    return {"epochs": [{"epoch": epoch, "points": points, "uses": uses} for epoch in at]}


def _generated(place: int, size: int) -> dict[str, float]:
    """Of a prior and its samples, a little different for every variant."""
    metrics = {
        "bits_per_token": 8 + 0.1 * place,
        "bits_per_token_without_class": 8.02 + 0.1 * place,
        "bits_per_image": 64 * (8 + 0.1 * place),
        "fixed_bits_per_image": 64 * math.log2(size),
        "entropy_per_token": 9.5,
        "gaussian_distortion": BOUND + 1e-4 * place,
        "frechet_distance": 30.0 + place,
        "class_accuracy": 0.5 + 0.01 * place,
        "guidance": 1.5,
    }
    for option, values in (("guidance", GUIDANCE), ("temperature", TEMPERATURES)):
        for value in values:
            metrics[curve("frechet_distance", option, value)] = 30 + place + (value - 1.5) ** 2
            metrics[curve("class_accuracy", option, value)] = 0.4 + 0.1 * value
    return metrics


def _uses(size: int, used: float) -> list[int]:
    """So many of the codes in use, the first most often."""
    return [1 + 1000 // (code + 1) if code < used else 0 for code in range(size)]


def _write(run: Run, name: str, record: Mapping[str, Any]) -> None:
    (run.folder / name).write_text(to_json({"format": run_folder.FORMAT, **record}))
