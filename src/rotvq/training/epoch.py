"""The record of an epoch."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from torch import Tensor

from rotvq.evaluation.evaluate import totals_over
from rotvq.evaluation.metrics import psnr
from rotvq.model import VQVAE
from rotvq.training.codebooks import health_of
from rotvq.training.collapse import warning
from rotvq.training.config import Config
from rotvq.training.state import TrainingState
from rotvq.training.totals import TrainingTotals


def is_due(every: int, epoch: int, epochs: int) -> bool:
    """Whether an epoch, counted from 1, is a multiple of `every` or the last one."""
    return epoch % every == 0 or epoch == epochs


def epoch_record(
    state: TrainingState[VQVAE, TrainingTotals], config: Config, images: Tensor
) -> dict[str, Any]:
    """Means over the epoch, the test pass if it is due, codebook health and timing.

    Args:
        state: at the end of the epoch; its totals are those of all processes.
        config: configuration of the run.
        images: images to test on.
    """
    options, at = config.training, state.position
    epoch = at.epoch + 1
    tested = is_due(options.test_every, epoch, options.epochs)
    since = time.perf_counter()
    record: dict[str, Any] = {
        "epoch": epoch,
        "images": at.images,
        "train": asdict(state.totals.means(options.beta)) | state.totals.mean_losses,
        "test": _test(state, config, images) if tested else {},
        # Codes that only the gradient moves are counted by no one.
        "codebook": {} if options.effort else health_of(state.model),
        "timing": {
            "train_seconds": round(at.seconds, 3),
            "test_seconds": round(time.perf_counter() - since, 3),
            "images_per_second": round(at.step * options.batch_size / at.seconds, 1),
        },
    }
    if at.bad.total:
        record["bad_steps"] = at.bad.total
    advice = warning([*at.history, record], config)
    if advice:
        record["codebook"]["warning"] = advice
    return record


def _test(
    state: TrainingState[VQVAE, TrainingTotals], config: Config, images: Tensor
) -> dict[str, float]:
    options = config.training
    size = options.micro_batch_size or options.batch_size
    means = asdict(totals_over(state.eval_model, images, size).means(options.beta))
    del means["batch_perplexity"]
    return {**means, "psnr": psnr(means["reconstruction_loss"])}
