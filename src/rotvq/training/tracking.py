"""A run's numbers and pictures to where its owner looks: TensorBoard, wandb, trackio, mlflow, …"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from PIL import Image

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.quantization import Codebook
from rotvq.training.config import Config
from rotvq.training.listener import Listener
from rotvq.training.loop import Trainer

PROJECT = "rotvq"


def check(names: Sequence[str]) -> None:
    """See that there are such trackers.

    Raises:
        UserError: a name that is none of accelerate's, or one whose package is not installed.
    """
    known = sorted(LOGGER_TYPE_TO_CLASS)
    for name in names:
        if name not in known:
            raise UserError(f"--track: expected one of {', '.join(known)}; got {name!r}.")
        if name not in {str(each.value) for each in get_available_trackers()}:
            raise UserError(
                f"--track {name}: expected its package; it is not installed. Run pip install {name}"
            )


def start(names: Sequence[str], config: Config, folder: Path) -> list[GeneralTracker]:
    """Trackers of those names, started.

    Args:
        names: that `check` accepts.
        config: of the run, which they are told.
        folder: of the run; those that write files do so in its folder `tracking`.
    """
    return [_started(name, config, folder) for name in names]


def listening(
    trackers: Sequence[GeneralTracker], trainer: Trainer, say: Callable[[str], object]
) -> Listener:
    """A listener that tells them of every completed epoch; steps count images.

    Args:
        trackers: that were started. One that fails is told no more; the run goes on.
        trainer: of the run.
        say: told of one that fails.
    """
    told = [*trackers]

    def tell(tracker: GeneralTracker, record: dict[str, Any]) -> None:
        picture = f"{run_folder.RECONSTRUCTIONS}/epoch_{record['epoch']:04d}.png"
        tracker.log(dict(_numbers(record)), step=record["images"])
        _show(tracker, trainer.folder / picture, record["images"])
        if tracker.name == "tensorboard":
            _codebook(tracker.writer, trainer, record)

    def epoch(record: dict[str, Any]) -> None:
        for tracker in [*told]:
            try:
                tell(tracker, record)
            # Trackers talk to services, which fail in ways of their own.
            except Exception as error:
                told.remove(tracker)
                say(f"  {tracker.name} is told no more: {type(error).__name__}: {error}")

    return Listener(epoch=epoch)


def finish(trackers: Sequence[GeneralTracker]) -> None:
    """Let them write what they hold."""
    for tracker in trackers:
        tracker.finish()


def _started(name: str, config: Config, folder: Path) -> GeneralTracker:
    kind = LOGGER_TYPE_TO_CLASS[name]
    place = (
        {"logging_dir": str(folder / run_folder.TRACKING)}
        if kind.requires_logging_directory
        else {}
    )
    tracker: GeneralTracker = kind(PROJECT, **place)
    tracker.start()
    if name != "tensorboard":  # it would make a run of its own of them
        flat = {f"{g}.{k}": v for g, part in asdict(config).items() for k, v in part.items()}
        tracker.store_init_configuration(flat)
    return tracker


def _numbers(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The record's numbers by names like test/perplexity."""
    for group in ("train", "test", "codebook", "timing"):
        for name, value in record[group].items():
            if isinstance(value, int | float):
                yield f"{group}/{name}", float(value)


def _show(tracker: GeneralTracker, picture: Path, step: int) -> None:
    if hasattr(tracker, "log_images") and picture.is_file():
        with Image.open(picture, formats=("PNG",)) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        images = {"reconstructions": pixels[None]}
        if tracker.name == "tensorboard":
            tracker.log_images(images, step=step, dataformats="NHWC")
        else:
            tracker.log_images(images, step=step)


def _codebook(writer: Any, trainer: Trainer, record: dict[str, Any]) -> None:
    """How often codes are used, and at the end where they lie."""
    codebook = trainer.model.quantizer.codebook
    if not isinstance(codebook, Codebook):
        return
    writer.add_histogram("codebook/N", codebook.cluster_size.cpu(), record["images"])
    if record["epoch"] == trainer.config.training.epochs:
        counts = [f"{n:.2f}" for n in codebook.cluster_size.tolist()]
        labels = [[str(code), count] for code, count in enumerate(counts)]
        writer.add_embedding(
            codebook.embeddings.detach().float().cpu(),
            metadata=labels,
            metadata_header=["code", "N"],
            tag="codebook",
            global_step=record["images"],
        )
