"""The model card of a run: what it is, how well it does, how it was made. From its record alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from rotvq.errors import UserError
from rotvq.model import VQVAE, hub
from rotvq.training import run_folder

METRICS = {
    "mse": "MSE on [-1, 1]",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "perplexity": "perplexity",
    "usage": "codebook usage",
    "bits_per_image": "bits an image",
}


def card(model: VQVAE, folder: Path, name: str = "owner/name") -> str:
    """Markdown with the hub's metadata.

    Args:
        model: of the run.
        folder: of a finished run; of any other the card has no numbers.
        name: on the hub.
    """
    text = hub.card(model, name)
    if not (folder / run_folder.EVALUATION).is_file():
        return text
    evaluation = _read(folder / run_folder.EVALUATION)
    run = _read(folder / run_folder.RUN)
    return text + "\n".join(["", *_results(evaluation, run), "", *_making(folder, run), ""])


def _results(evaluation: dict[str, Any], run: dict[str, Any]) -> list[str]:
    metrics = evaluation["metrics"]
    return [
        "## Results",
        "",
        f"{evaluation['images']:,} images of the {evaluation['split']} split of "
        f"{run['data']['name']}, decoded from their indices alone.",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {metrics[key]:.5g} |" for key, name in METRICS.items() if key in metrics),
        "",
        "How they were measured:",
        "",
        *(f"- {key}: {words}" for key, words in evaluation["protocol"].items()),
    ]


def _making(folder: Path, run: dict[str, Any]) -> list[str]:
    hardware, versions = run["hardware"], run["versions"]
    config = asdict(run_folder.read_config(folder))
    config["data"].pop("source", None)  # a path of one's own, perhaps
    return [
        "## Training",
        "",
        f"RotVQ {run['rotvq']}, torch {versions['torch']}, {run['precision']} on "
        f"{hardware['name']}, {run['model']['parameters']:,} parameters.",
        "",
        "```yaml",
        yaml.safe_dump(config, sort_keys=False).rstrip(),
        "```",
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{path}: expected the record of a run; it is damaged. Evaluate the run again: rotvq "
            f"evaluate {path.parent}"
        ) from None
