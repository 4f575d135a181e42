"""The training loop.

Progress counts images. The randomness of a step derives from (seed, images seen), the order of an
epoch from (seed, epoch); so a resumed run takes the same steps as an uninterrupted one, bit for bit
on a CPU.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from rotvq import run_folder
from rotvq.training import monitor, processes
from rotvq.training.callbacks import Callback
from rotvq.training.epoch import is_due
from rotvq.training.interrupt import Interrupt, Stopped
from rotvq.training.monitor import Monitor
from rotvq.training.run import TrainingRun
from rotvq.training.schedule import lr_scheduler, share_of_peak
from rotvq.training.step import Step

Run = TrainingRun[Any, Any]


def train(run: Run, callbacks: Sequence[Callback], interrupt: Interrupt) -> None:
    """Train for the remaining steps and epochs.

    Args:
        run: the run, which continues from its position.
        callbacks: called by the main process.
        interrupt: checked after each step.

    Raises:
        Stopped: a signal came, and the checkpoint is written.
        UserError: the loss or too many gradients in a row are not finite.
    """
    options, state, model, at = run.options, run.state, run.model, run.position
    callbacks = callbacks if run.accelerator.is_main_process else ()
    first = run.accelerator.process_index * run.share
    own = slice(first, first + run.share)
    steps = options.epochs * run.steps
    done = at.images // options.batch_size
    scheduler = lr_scheduler(state.optimizer, options.schedule, options.learning_rate, steps, done)
    watch = Monitor(run.accelerator, run.precision, at.bad)
    take_step = Step(run)

    while at.epoch < options.epochs:
        order = run.order(at.epoch)
        model.train()
        since = time.perf_counter()

        while at.step < run.steps:
            # Every process draws the random numbers of the whole batch.
            seed = np.random.SeedSequence([options.seed, 0, at.images]).generate_state(1)
            torch.manual_seed(int(seed[0]))
            batch = run.batch(order, at.step, own)
            run.before_step(order, at.images / (steps * options.batch_size))
            watch.add(*take_step(batch))
            scheduler.step()
            if state.average:
                state.average.update_parameters(model)
            at.step += 1
            at.images += options.batch_size

            # Report, and stop if a signal came.
            if watch.is_due(at.step, run.steps):
                _read(run, watch, order, callbacks)
            if at.step < run.steps and _is_stopped(run, interrupt):
                if watch:
                    _read(run, watch, order, callbacks)
                at.seconds += time.perf_counter() - since
                _stop(run, interrupt)

        # Test, and write the epoch.
        at.seconds += time.perf_counter() - since
        state.totals.reduce()
        record = run.epoch_record()
        run.check_finite("the test loss", record["test"].get("loss", 0.0))
        at.history.append(record)
        at.epoch, at.step, at.seconds = at.epoch + 1, 0, 0.0
        state.reset_totals()
        if run.accelerator.is_main_process:
            run.draw()
        for callback in callbacks:
            callback.on_epoch_end(record)
        if is_due(options.checkpoint_every, at.epoch, options.epochs):
            if not processes.hold_equal_models(run.accelerator, state.trained):
                run.refuse("the processes no longer hold the same weights and codebook")
            run.save()
        if at.epoch < options.epochs and _is_stopped(run, interrupt):
            _stop(run, interrupt)


def _read(run: Run, watch: Monitor, order: Tensor, callbacks: Sequence[Callback]) -> None:
    """Read the steps since the last reading; report bad steps and the means so far."""
    at = run.position
    for ago, value in watch.read().items():
        message = _report(run, at.step - ago, watch.watched, value, order)
        for callback in callbacks:
            callback.on_bad_step(message)
    if at.bad.in_a_row >= monitor.PATIENCE:
        run.refuse(f"the gradients were not finite in {at.bad.in_a_row} steps in a row")
    means = run.means()
    if at.step == run.steps:
        run.check_finite("the loss", means.loss)
    for callback in callbacks:
        callback.on_images(at.images, means)


def _report(run: Run, step: int, watched: str, value: float, order: Tensor) -> str:
    """Report a bad step of the current epoch, counted from 0; returns a sentence about it."""
    at, options = run.position, run.options
    before = at.epoch * run.steps + step
    message = f"Step {before + 1:,} was skipped: its gradients are not finite."
    if at.bad.total > monitor.REPORTS or not run.accelerator.is_main_process:
        return message
    share = share_of_peak(options.schedule, before, options.epochs * run.steps)
    size = options.batch_size
    facts = {
        "epoch": at.epoch + 1,
        "watched": watched,
        "value": str(value),
        "images": order[step * size : (step + 1) * size].tolist(),
        "learning_rate": options.learning_rate * share,
        "precision": run.precision,
        "seen_after_images": at.images,
        "means_of_the_epoch": asdict(run.means()),
        "weights_finite": run.state.is_finite(),
        **run.facts(),
    }
    folder = run.folder / run_folder.BAD_STEPS
    monitor.report(folder, before + 1, facts, run.batch(order, step))
    return f"{message} Its images and a report are in {folder}."


def _is_stopped(run: Run, interrupt: Interrupt) -> bool:
    return processes.agree_to_stop(run.accelerator, interrupt, run.position.step)


def _stop(run: Run, interrupt: Interrupt) -> NoReturn:
    run.state.totals.reduce()
    run.save()
    assert interrupt.signal is not None
    raise Stopped(
        interrupt.signal,
        f"Stopped after {run.position.images:,} images; everything is saved in {run.folder}. "
        f"Continue with: rotvq {run.command} --out {shlex.quote(str(run.folder))} --resume",
    )
