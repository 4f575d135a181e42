"""Logging a run to TensorBoard, wandb, trackio, mlflow or another tracker of accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from PIL import Image

from rotvq import run_folder
from rotvq.errors import UserError, first_line
from rotvq.training.callbacks import Callback
from rotvq.training.config import Config, options_of
from rotvq.training.trainer import Trainer

PROJECT = "rotvq"

POINTS = 1000
"""Maximum number of points within epochs that are logged for a run."""


def check(names: Sequence[str]) -> None:
    """Check the names of trackers.

    Raises:
        UserError: accelerate does not know a tracker, or its package is not installed.
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
    """Start trackers.

    Args:
        names: checked by `check`.
        config: configuration of the run; logged to the trackers.
        folder: the run folder; trackers that write files use its subfolder `tracking`.

    Raises:
        UserError: one does not start.
    """
    return [_started(name, config, folder) for name in names]


class TrackerCallback(Callback):
    """Logs every epoch to the trackers; steps count images.

    Args:
        trackers: the trackers from `start`. One that fails is dropped, and the run continues.
        trainer: the run's trainer.
        say: called with a sentence about a tracker that fails.
    """

    def __init__(
        self,
        trackers: Sequence[GeneralTracker],
        trainer: Trainer,
        say: Callable[[str], object],
    ) -> None:
        self._trackers, self._trainer, self._say = [*trackers], trainer, say
        self._logged = trainer.position.images

    def on_images(self, images: int, means: Any) -> None:
        """Log the means over the epoch so far, POINTS times in a run at most."""
        trainer = self._trainer
        every = trainer.images_per_epoch * trainer.config.training.epochs / POINTS
        if images - self._logged >= every:
            self._logged = images
            values = {
                f"running/{name}": float(value)
                for name, value in asdict(means).items()
                if isinstance(value, int | float)
            }
            self._each(lambda tracker: tracker.log(values, step=images))

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        """Log the numbers, the reconstructions and, to TensorBoard, the codebook."""
        self._each(lambda tracker: self._log(tracker, record))

    def on_end(self, record: dict[str, Any]) -> None:
        """Log the metrics of the whole test split; to TensorBoard with the configuration."""
        images = self._trainer.position.images
        values = {f"final/{k}": v for k, v in record["metrics"].items() if v is not None}

        def log(tracker: GeneralTracker) -> None:
            tracker.log(values, step=images)
            if tracker.name == "tensorboard":
                _log_hparams(tracker.writer, self._trainer.config, values)

        self._each(log)

    def _each(self, log: Callable[[GeneralTracker], object]) -> None:
        """Call a function with each tracker; one that fails is dropped."""
        for tracker in [*self._trackers]:
            try:
                log(tracker)
            # Trackers talk to services, which fail in ways of their own.
            except Exception as error:
                self._trackers.remove(tracker)
                kind = type(error).__name__
                self._say(f"  Logging to {tracker.name} stopped after an error: {kind}: {error}")

    def _log(self, tracker: GeneralTracker, record: dict[str, Any]) -> None:
        tracker.log(dict(_numbers(record)), step=record["images"])
        picture = self._trainer.folder / run_folder.reconstruction(record["epoch"])
        _show(tracker, picture, record["images"])
        if tracker.name == "tensorboard":
            _codebooks(tracker.writer, self._trainer, record)


def finish(trackers: Sequence[GeneralTracker]) -> None:
    """Flush and close the trackers."""
    for tracker in trackers:
        tracker.finish()


def _started(name: str, config: Config, folder: Path) -> GeneralTracker:
    kind = LOGGER_TYPE_TO_CLASS[name]
    place = (
        {"logging_dir": str(folder / run_folder.TRACKING)}
        if kind.requires_logging_directory
        else {}
    )
    try:
        tracker: GeneralTracker = kind(PROJECT, **place)
        tracker.start()
        # TensorBoard would create a separate run for the configuration.
        if name != "tensorboard":
            tracker.store_init_configuration(options_of(config))
    # Trackers talk to services, which fail in ways of their own.
    except Exception as error:
        raise UserError(
            f"--track {name}: expected a tracker that starts; got {type(error).__name__}: "
            f"{first_line(error)}. Set it up, and continue the run with --resume; or leave it out."
        ) from None
    return tracker


def _log_hparams(writer: Any, config: Config, metrics: dict[str, float]) -> None:
    """Add the options and final metrics to the run; `add_hparams` would start another one."""
    from torch.utils.tensorboard.summary import hparams

    options = {
        name: "null" if value is None else value for name, value in options_of(config).items()
    }
    for summary in hparams(options, metrics):
        writer.file_writer.add_summary(summary)


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


def _codebooks(writer: Any, trainer: Trainer, record: dict[str, Any]) -> None:
    """How often codes are used, and at the end of the run where they lie."""
    codebooks = trainer.model.quantizer.codebooks
    for number, codebook in enumerate(codebooks, start=1):
        name = f"codebook_{number}" if len(codebooks) > 1 else "codebook"
        writer.add_histogram(f"{name}/N", codebook.cluster_size.cpu(), record["images"])
        if record["epoch"] < trainer.config.training.epochs:
            continue
        counts = [f"{n:.2f}" for n in codebook.cluster_size.tolist()]
        writer.add_embedding(
            codebook.embeddings.detach().float().cpu(),
            metadata=[[str(code), count] for code, count in enumerate(counts)],
            metadata_header=["code", "N"],
            tag=name,
            global_step=record["images"],
        )
