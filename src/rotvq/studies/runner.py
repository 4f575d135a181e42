"""Doing a plan: each run trained and measured once, whoever is killed in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rotvq.data_processing import ImageData
from rotvq.errors import UserError
from rotvq.evaluation.metrics import Means
from rotvq.files import write_json
from rotvq.studies.measures import MEASURES, Shared
from rotvq.studies.plan import Run, check
from rotvq.studies.recorder import observer
from rotvq.training import run_folder
from rotvq.training.images import on_device, sizes
from rotvq.training.listener import Listener
from rotvq.training.loop import Trainer

LOCKS = ".locks"


@dataclass(frozen=True)
class Audience:
    """Who wants to know how a plan goes; every call is optional.

    Args:
        begins: told a run that is taken up.
        images: told a run, how many images it was trained on in all, and the epoch's means.
        measures: told a run, and which measurement comes now.
        ends: told a run that is done.
        fails: told a run that could not be done, and why.
    """

    begins: Callable[[Run], object] = lambda run: None
    images: Callable[[Run, int, Means], object] = lambda run, images, means: None
    measures: Callable[[Run, str], object] = lambda run, name: None
    ends: Callable[[Run], object] = lambda run: None
    fails: Callable[[Run, UserError], object] = lambda run, error: None


def check_images(plan: Sequence[Run], data: ImageData) -> None:
    """See that the runs in their folders, begun or finished, were made from the images at hand.

    Raises:
        UserError: one was not.
    """
    known: dict[tuple[int | None, int | None], dict[str, dict[str, Any]]] = {}
    for run in plan:
        if not (run.folder / run_folder.RUN).exists():
            continue
        limits = run.config.data.train_images, run.config.data.test_images
        if limits not in known:
            splits = zip(("train", "test"), (data.train, data.test), limits, strict=True)
            known[limits] = sizes({n: on_device(split, some, "cpu") for n, split, some in splits})
        run_folder.check_same(run.folder, known[limits])


def work(
    plan: Sequence[Run],
    data: ImageData,
    out: Path,
    *,
    command: Callable[[Run], str],
    audience: Audience | None = None,
) -> None:
    """Do what is left of a plan, in order.

    Several processes may work on one plan: a run that another has taken is passed over. A run
    whose loss is not finite is told of, and left.

    Args:
        plan: the runs.
        data: the images of all of them.
        out: folder of all records.
        command: the command line that makes a run alone, for its record.
        audience: is told how it goes.

    Raises:
        Stopped: a signal came; the run's checkpoint is written.
        UserError: a folder holds the record of another configuration.
    """
    audience = audience or Audience()
    for run in plan:
        check(run)
    (out / LOCKS).mkdir(parents=True, exist_ok=True)
    shared = Shared(data, plan[0].config.data.test_images, out)
    # What others hold is waited for at the end: it may be left undone, or be another study's too.
    taken = [run for run in plan if not _take(run, shared, command, audience, wait=False)]
    for run in taken:
        _take(run, shared, command, audience, wait=True)


def _take(
    run: Run, shared: Shared, command: Callable[[Run], str], audience: Audience, *, wait: bool
) -> bool:
    """Do what is left of a run, unless another process holds it; returns whether none did."""
    # Runs that share a folder share a lock.
    lock = FileLock(shared.out / LOCKS / "-".join(run.folder.relative_to(shared.out).parts))
    try:
        with lock.acquire(timeout=-1 if wait else 0):
            if run.done:
                return True
            audience.begins(run)
            if not run.trained:
                _train(run, shared.data, command(run), audience)
            for name in run.missing:
                audience.measures(run, name)
                write_json(run.folder / f"{name}.json", MEASURES[name](run, shared))
            audience.ends(run)
    except Timeout:
        return False
    except UserError as error:
        audience.fails(run, error)
    return True


def _train(run: Run, data: ImageData, command: str, audience: Audience) -> None:
    trainer = Trainer(run.config, data, run.folder)
    if run_folder.is_run(run.folder):
        trainer.resume()
    else:
        trainer.begin(command)
    trainer.run(
        Listener(
            images=lambda images, means: audience.images(run, images, means),
            closing=observer(trainer),
        )
    )
