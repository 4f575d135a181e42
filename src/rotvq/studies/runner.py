"""Carry out a plan: each run is trained and measured once, even if processes are killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rotvq import run_folder
from rotvq.data_processing import ImageData
from rotvq.errors import UserError
from rotvq.files import write_json
from rotvq.studies.callbacks import StudyCallback
from rotvq.studies.classifier import obtain
from rotvq.studies.measures import MEASURES
from rotvq.studies.plan import PERCEPTUAL, Run, check
from rotvq.studies.recorder import RunRecorder
from rotvq.studies.shared import Shared
from rotvq.training.folder import check_same_data
from rotvq.training.images import on_device, sizes
from rotvq.training.trainer import Trainer

LOCKS = ".locks"

SEED, WIDTH = 1, 24
"""Of the perceptual loss's classifier; the one that evaluates has others."""


def check_images(plan: Sequence[Run], data: ImageData) -> None:
    """Check that the started and finished runs of a plan used these images.

    Raises:
        UserError: a run used others.
    """
    known: dict[tuple[int | None, int | None], dict[str, dict[str, Any]]] = {}
    for run in plan:
        if not (run.folder / run_folder.RUN).exists():
            continue
        limits = run.config.data.train_images, run.config.data.test_images
        if limits not in known:
            splits = zip(("train", "test"), (data.train, data.test), limits, strict=True)
            known[limits] = sizes({n: on_device(split, some, "cpu") for n, split, some in splits})
        check_same_data(run.folder, known[limits])


def run_plan(
    plan: Sequence[Run],
    data: ImageData,
    out: Path,
    *,
    command: Callable[[Run], str],
    callback: StudyCallback | None = None,
) -> None:
    """Finish the runs of a plan, in order.

    Several processes may share a plan: each leaves out the runs that another one holds. A run that
    fails, as with a loss that is not finite, is reported, and the plan continues.

    Args:
        plan: the runs.
        data: the images of all runs.
        out: folder of all records.
        command: returns the command line that repeats a run alone, for its record.
        callback: follows the runs.

    Raises:
        Stopped: a signal arrived; the run's checkpoint is written.
        UserError: a folder holds the record of another configuration.
    """
    callback = callback or StudyCallback()
    for run in plan:
        check(run)
    (out / LOCKS).mkdir(parents=True, exist_ok=True)
    shared = Shared(data, plan[0].config.data.test_images, out, callback)
    if any(run.config.training.perceptual for run in plan if not run.trained):
        with FileLock(out / LOCKS / PERCEPTUAL):
            obtain(data, out / PERCEPTUAL, shared.device, seed=SEED, width=WIDTH)
    # Runs that others hold come last: those may be killed, or hold the run for another study.
    taken = [run for run in plan if not _take(run, shared, command, callback, wait=False)]
    for run in taken:
        _take(run, shared, command, callback, wait=True)


def _take(
    run: Run, shared: Shared, command: Callable[[Run], str], callback: StudyCallback, *, wait: bool
) -> bool:
    """Finish a run unless another process holds it; return whether none did."""
    # Runs that share a folder share a lock.
    lock = FileLock(shared.out / LOCKS / "-".join(run.folder.relative_to(shared.out).parts))
    try:
        with lock.acquire(timeout=-1 if wait else 0):
            if run.done:
                return True
            callback.on_run_begin(run)
            if not run.trained:
                _train(run, shared.data, command(run), callback)
            for name in run.missing:
                callback.on_measure(run, name)
                write_json(run.folder / f"{name}.json", MEASURES[name](run, shared))
            callback.on_run_end(run)
    except Timeout:
        return False
    except UserError as error:
        callback.on_run_failed(run, error)
    return True


def _train(run: Run, data: ImageData, command: str, callback: StudyCallback) -> None:
    trainer = Trainer(run.config, data, run.folder)
    if run_folder.is_run(run.folder):
        trainer.resume()
    else:
        trainer.begin(command)
    trainer.run([callback, RunRecorder(trainer)])
