"""The model card of a run, from its record: what it is, its metrics, how it was trained."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from rotvq import run_folder
from rotvq.model import VQVAE, hub
from rotvq.run_record import Evaluation, RunRecord, load_run, lookup
from rotvq.text import markdown, printable
from rotvq.training.folder import read_config

METRICS = {
    "mse": "MSE on [-1, 1]",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "ssim_uniform_7x7": "SSIM, uniform 7x7 window",
    "perplexity": "perplexity",
    "usage": "codebook usage",
    "bits_per_image": "bits per image",
}


def card(model: VQVAE, folder: Path, name: str = "owner/name") -> str:
    """Markdown with the Hub's metadata.

    Args:
        model: the run's model.
        folder: the folder of a finished run; without an evaluation the card has no metrics.
        name: name on the Hub.

    Raises:
        UserError: a record of the run is damaged.
    """
    text = hub.card(model.quantizer, model.channels, model.stride, name)
    if not (folder / run_folder.EVALUATION).is_file():
        return text
    run = load_run(folder)
    assert run.evaluation
    return text + "\n".join(["", *_results(run, run.evaluation), "", *_training(run), ""])


def _results(run: RunRecord, evaluation: Evaluation) -> list[str]:
    return [
        "## Results",
        "",
        f"{evaluation.images:,} images of the {markdown(evaluation.split)} split of "
        f"{_said(run, 'data.name')}, decoded from their indices alone.",
        "",
        "| metric | value |",
        "|---|---|",
        *(
            f"| {name} | {evaluation.metrics[key]:.5g} |"
            for key, name in METRICS.items()
            if key in evaluation.metrics
        ),
        "",
        *_levels(evaluation),
        "Evaluation protocol:",
        "",
        *(f"- {markdown(key)}: {markdown(words)}" for key, words in evaluation.protocol.items()),
    ]


def _levels(evaluation: Evaluation) -> list[str]:
    """A table with a row for each bitrate of a residual quantizer; empty without one."""
    names = ("bits_per_image", "mse", "psnr", "ssim")
    rows = [
        [f"{n}", *(f"{row.get(name, math.nan):.5g}" for name in names)]
        for n, row in enumerate(evaluation.levels, start=1)
    ]
    if not rows:
        return []
    heads = ["levels", *(METRICS[name] for name in names)]
    table = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in table), ""]


def _training(run: RunRecord) -> list[str]:
    config = asdict(read_config(run.path))
    private = (("data", "source"), ("training", "perceptual"), ("training", "init_from"))
    for group, name in private:  # may be paths of this machine
        config[group].pop(name, None)
    parameters = lookup(run.run, "model.parameters")
    size = f"{parameters:,}" if isinstance(parameters, int) else "?"
    text = yaml.safe_dump(_on_one_line(config), sort_keys=False, width=2**20)
    return [
        "## Training",
        "",
        f"RotVQ {_said(run, 'rotvq')}, torch {_said(run, 'versions.torch')}, "
        f"{_said(run, 'precision')} on {_said(run, 'hardware.name')}, {size} parameters.",
        "",
        indent(text, "    ").rstrip(),
    ]


def _said(run: RunRecord, dotted: str) -> str:
    found = lookup(run.run, dotted)
    return "?" if found is None else markdown(str(found))


def _on_one_line(value: Any) -> Any:
    """A configuration without line breaks in its texts, so that none leaves the code block."""
    if isinstance(value, dict):
        return {key: _on_one_line(each) for key, each in value.items()}
    return printable(value) if isinstance(value, str) else value
