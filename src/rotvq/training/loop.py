"""The training loop.

Progress counts images. All randomness of a step derives from (seed, process, images seen) and the
order of an epoch from (seed, epoch), so a resumed run takes the steps that an uninterrupted one
takes, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import shlex
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rotvq.data_processing import ImageData, epoch_order, skipped
from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluate, totals_over
from rotvq.evaluation.metrics import Means, Totals, psnr
from rotvq.evaluation.pixels import normalized
from rotvq.files import write_json
from rotvq.model import VQVAE, VQVAEOutput, pretrained
from rotvq.quantization import Codebook, health
from rotvq.training import (
    bad_steps,
    checkpoint,
    environment,
    gradients,
    processes,
    run_folder,
    starting_point,
    state,
)
from rotvq.training.build import build_model
from rotvq.training.checkpoint import Checkpoint, Position
from rotvq.training.collapse import warning
from rotvq.training.config import Config
from rotvq.training.images import limited, mirrored, on_device, sizes
from rotvq.training.interrupt import Interrupt, Stopped
from rotvq.training.listener import Listener
from rotvq.training.lock import RunLock
from rotvq.training.pictures import fixed_images, save_reconstructions
from rotvq.training.record import describe
from rotvq.training.samples import Samples
from rotvq.training.schedule import SCHEDULES, even

LOOK_EVERY = 0.5
"""Seconds between two looks at the sums; each look makes the host wait for the device."""

VECTORS_PER_CODE = 2
"""Latent vectors that a codebook starts from, at least, as far as there are images."""


class Trainer:
    """One run in one folder.

    Args:
        config: what to train.
        data: images in memory.
        folder: where it lies or shall lie. Nothing is written before `begin` or `resume`.

    Raises:
        UserError: configuration, data and processes do not fit together.
    """

    def __init__(self, config: Config, data: ImageData, folder: Path) -> None:
        self.config, self.data, self.folder = config, data, folder
        options = config.training
        AcceleratorState._reset_state()
        # Precision is our own autocast: accelerate's would wrap the model's evaluation too.
        # Every process moves its codebook alike; no buffer needs to be sent.
        alike = DistributedDataParallelKwargs(broadcast_buffers=False)
        # Unless told, accelerate leaves processes without a GPU alone, each with a run of its own.
        cpu = options.device == "cpu" or environment.accelerator().type == "cpu"
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[alike])
        self.device = self.accelerator.device
        self.precision = environment.resolve_precision(options.precision, self.device)
        self.share = processes.share(options, self.accelerator.num_processes)
        first = self.accelerator.process_index * self.share
        self.own = slice(first, first + self.share)
        train = limited(data.train, config.data.train_images)
        self.train_images = on_device(train, None, self.device)
        self.test_images = on_device(data.test, config.data.test_images, self.device)
        self.validation_images = (
            on_device(data.validation, None, self.device) if data.validation else None
        )
        self._check_images()
        self.samples = Samples(self.train_images, train, options.batch_size, options.seed)
        self.steps = len(self.samples) // options.batch_size
        torch.manual_seed(options.seed)
        self.model = build_model(config).to(self.device)
        # One codebook step for one optimizer step, whatever the number of micro-batches.
        self.model.quantizer.defer_update = True
        # torch's own signature of `to` leaves out the memory format of modules.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=options.learning_rate,
            fused=self.device.type in ("cpu", "cuda"),
        )
        average = get_ema_multi_avg_fn(options.ema_decay)
        self.average = (
            AveragedModel(self.model, multi_avg_fn=average) if options.ema_decay else None
        )
        with warnings.catch_warnings():
            # Newer torch has another name for it, which older ones do not know.
            warnings.filterwarnings("ignore", ".broadcast_buffers. is deprecated", FutureWarning)
            self.wrapped = self.accelerator.prepare_model(self.model)
        self.scaler = gradients.scaler(self.device, self.precision)
        self.position = Position()
        self.norms: list[Tensor] = []
        self.totals = self._new_totals()
        self.lock = RunLock(folder)

    @property
    def eval_model(self) -> VQVAE:
        """The model that is tested and saved: the one that is trained, or its moving average."""
        return cast(VQVAE, self.average.module) if self.average else self.model

    @property
    def val_images(self) -> Tensor:
        """The images that are tested on while training: held out for that, or the test images."""
        return self.test_images if self.validation_images is None else self.validation_images

    @property
    def progress(self) -> float:
        """Share of the run's steps that are done, 0 to 1."""
        options = self.config.training
        return self.position.images / (options.epochs * self.steps * options.batch_size)

    @property
    def beta(self) -> float:
        """β as it is now."""
        options = self.config.training
        return even(options.beta, options.final_beta, self.progress)

    def begin(self, command: str = "", *, overwrite: bool = False) -> None:
        """Make the folder for a new run.

        Args:
            command: the command line, for the record.
            overwrite: replace the run that lies there.

        Raises:
            UserError: the folder is not free, another process trains in it, or there is no model to
                begin from.
        """
        start = self._start()
        if self.accelerator.is_main_process:
            # Before the lock, which makes the folder.
            run_folder.check_free(self.folder, overwrite)
        with self.lock.until_failure(self.accelerator.is_main_process):
            if self.accelerator.is_main_process:
                run_folder.prepare(self.folder, self.config, overwrite=overwrite)
                self._describe(command, start)
            processes.check_shared(self.accelerator, self.folder, 0)
            if start:
                self._save()

    def _start(self) -> dict[str, str] | None:
        """Take up the weights that the run begins from; where they are from, for the record."""
        name = self.config.training.init_from
        if name is None:
            return None
        start = starting_point.load(name, self.config)
        self.model.load_state_dict(start.weights)
        return start.record

    def resume(self) -> str:
        """Take up the state of the folder's checkpoint; without one, start from the beginning.

        Returns:
            A sentence on a damaged checkpoint that the one before it stands in for, or nothing.

        Raises:
            UserError: the run was made from other images or in another precision, its checkpoints
                are damaged, it is past the epochs asked for, or another process is training it.
        """
        with self.lock.until_failure(self.accelerator.is_main_process):
            return self._resume(self.folder / run_folder.CHECKPOINT)

    def _resume(self, path: Path) -> str:
        told = ""
        if self.accelerator.is_main_process:
            if not (self.folder / run_folder.RUN).exists():
                self._describe("")
            splits = sizes(self._images()) | self.samples.record
            run_folder.check_same(self.folder, splits, self.precision)
            told = checkpoint.settle(path)
        self.accelerator.wait_for_everyone()
        begun = path.exists()
        processes.check_shared(self.accelerator, self.folder, 1 + begun)
        if begun:
            self._take_up(path)
        else:
            self._start()
        # Last, so that a refusal leaves the folder as it was.
        if self.accelerator.is_main_process:
            run_folder.take_up(self.folder, self.config)
            if begun:
                checkpoint.save_weights(self.folder / run_folder.WEIGHTS, self.eval_model)
                run_folder.write_epochs(self.folder, self.position.history)
        return told

    def _take_up(self, path: Path) -> None:
        main, options = self.accelerator.is_main_process, self.config.training
        self.position = state.restore(self._parts(), path, options, self.steps, sums=main)

    def run(self, listener: Listener | None = None) -> dict[str, Any]:
        """Train to the end and evaluate; returns the evaluation's record.

        Raises:
            Stopped: a signal came; the checkpoint is written. After the last epoch it waits for
                the evaluation, and its record is written too.
            UserError: the loss is not finite any more.
        """
        try:
            return self._run(listener or Listener())
        finally:
            self.lock.release()

    def _run(self, listener: Listener) -> dict[str, Any]:
        with Interrupt() as interrupt:
            while self.position.epoch < self.config.training.epochs:
                self._epoch(listener, interrupt)
            record = evaluate(self.eval_model, self.test_images, beta=self.beta)
        if self.accelerator.is_main_process:
            run_folder.write_epochs(self.folder, self.position.history)
            write_json(self.folder / run_folder.EVALUATION, record)
            checkpoint.before(self.folder / run_folder.CHECKPOINT).unlink(missing_ok=True)
        if interrupt.signal is not None:
            raise Stopped(interrupt.signal, f"Stopped; the run is finished in {self.folder}.")
        return record

    def _epoch(self, listener: Listener, interrupt: Interrupt) -> None:
        options, at = self.config.training, self.position
        order = torch.from_numpy(epoch_order(len(self.samples), options.seed, at.epoch))
        order = order.to(self.train_images.device)
        self.model.train()
        since = told = time.perf_counter()
        while at.step < self.steps:
            self._step(order)
            at.step += 1
            at.images += options.batch_size
            now = time.perf_counter()
            if self._look_falls_due(now - told):
                told = now
                self._look(order, listener)
            if at.step < self.steps and self._to_stop(interrupt):
                if self.norms:
                    self._look(order, listener)
                at.seconds += now - since
                self._stop(interrupt)
        at.seconds += time.perf_counter() - since
        self._close_epoch(listener)
        if at.epoch < options.epochs and self._to_stop(interrupt):
            self._stop(interrupt)

    def _to_stop(self, interrupt: Interrupt) -> bool:
        return processes.agree_to_stop(self.accelerator, interrupt, self.position.step)

    def _step(self, order: Tensor) -> None:
        """One optimizer step and one codebook step over this process's share of the next batch.

        Every process draws the numbers of the whole batch and uses its own. The codebook moves even
        where the optimizer's step is left out; it takes no vector that is not finite.
        """
        options = self.config.training
        position = [options.seed, 0, self.position.images]
        torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate * SCHEDULES[options.schedule](self.progress)
        self._set_decay()
        batch = self._batch(order, self.position.step)
        images = self._take(batch[self.own]).to(self.device)
        if options.flip:
            images = mirrored(images, torch.rand(options.batch_size)[self.own] < 0.5)
        parts = images.split(options.micro_batch_size or self.share)
        if not all(codebook.ready for codebook in self.model.quantizer.codebooks):
            self._place_codes(order)
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                with self._autocast():
                    output: VQVAEOutput = self.wrapped(normalized(part))
                loss = output.loss(self.beta, options.entropy_weight)
                self.scaler.scale(loss / len(parts)).backward()
            self.totals.add(output, loss.isfinite())
        self.scaler.unscale_(self.optimizer)
        norm = gradients.clip(self.model, options.gradient_clip)
        # fp16's scaler looks for a fitting scale by steps that overflow.
        self.norms.append(loss.detach() if self.precision == "fp16" else norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.quantizer.update_codebook()
        if self.average:
            self.average.update_parameters(self.model)

    def _new_totals(self) -> Totals:
        quantizer = self.model.quantizer
        return Totals(quantizer.codebook_sizes, quantizer.dim, self.device)

    def _batch(self, order: Tensor, step: int) -> Tensor:
        """Which images make the batch of a step of the epoch, over all processes."""
        size = self.config.training.batch_size
        return order[step * size : (step + 1) * size]

    def _take(self, batch: Tensor) -> Tensor:
        """The images of a batch, or of a part of it."""
        return self.samples.take(batch, self.position.epoch)

    def _look_falls_due(self, seconds: float) -> bool:
        """Whether to look so long after the last time; processes do so at the same steps."""
        if self.position.step == self.steps:
            return True
        if self.accelerator.num_processes > 1:
            return self.position.step % processes.AGREE_EVERY == 0
        return seconds > LOOK_EVERY

    def _look(self, order: Tensor, listener: Listener) -> None:
        """Read what the steps since the last look came to; the host waits for the device here."""
        at = self.position
        norms = self.accelerator.reduce(torch.stack(self.norms))
        first, self.norms = at.step - len(norms), []
        for place in at.bad.note(norms):
            self._tell_bad_step(first + place, norms[place].item(), order, listener)
        if at.bad.in_a_row >= bad_steps.PATIENCE:
            self._refuse(f"the gradients were not finite in {at.bad.in_a_row} steps in a row")
        means = self.totals.means(self.beta)
        if at.step == self.steps:
            self._check(means)
        listener.images(at.images, means)

    def _tell_bad_step(self, step: int, value: float, order: Tensor, listener: Listener) -> None:
        at = self.position
        number = at.epoch * self.steps + step + 1
        told = f"Step {number:,} was left out: its gradients are not finite."
        if at.bad.total <= bad_steps.REPORTS and self.accelerator.is_main_process:
            batch = self._batch(order, step)
            facts = {
                "epoch": at.epoch + 1,
                "watched": "loss" if self.precision == "fp16" else "gradient norm",
                "value": str(value),
                "images": batch.tolist(),
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "beta": self.beta,
                "precision": self.precision,
                "seen_after_images": at.images,
                "means_of_the_epoch": asdict(self.totals.means(self.beta)),
                "weights_finite": self._finite(),
                "codebook": self._health(),
            }
            folder = self.folder / run_folder.BAD_STEPS
            bad_steps.report(folder, number, facts, self._take(batch))
            told += f" Its images and what is known of it are in {folder}."
        listener.trouble(told)

    @torch.no_grad()
    def _place_codes(self, order: Tensor) -> None:
        """Start the codebook from the data: a batch, or more where it has fewer vectors than that.

        All processes look at the same images, and the codebook counts those of one: any number of
        processes starts from the same codes.
        """
        stride = self.model.stride
        tokens = self.train_images.shape[2] // stride * (self.train_images.shape[3] // stride)
        wanted = -(-VECTORS_PER_CODE * self.model.quantizer.codebook_size // tokens)
        first = order[: max(self.config.training.batch_size, wanted)]
        images = self._take(first).to(self.device)
        with self._autocast():
            parts = images.split(self.config.training.micro_batch_size or self.share)
            z = torch.cat([self.model.encoder(normalized(part)) for part in parts])
        counts = z.new_full(z[:, 0].shape, self.accelerator.is_main_process, dtype=torch.bool)
        self.model.quantizer.initialize_codebook(z, counts)

    def _set_decay(self) -> None:
        options = self.config.quantizer
        for codebook in self.model.quantizer.codebooks:
            codebook.decay = even(options.decay, options.final_decay, self.progress)

    def _close_epoch(self, listener: Listener) -> None:
        options, at = self.config.training, self.position
        self.totals.reduce()
        train = asdict(self.totals.means(self.beta))
        since = time.perf_counter()
        record: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "images": at.images,
            "train": train,
            "test": self._test() if self._falls_due(options.test_every) else {},
            "codebook": self._health(),
            "timing": {
                "train_seconds": round(at.seconds, 3),
                "test_seconds": round(time.perf_counter() - since, 3),
                "images_per_second": round(self.steps * options.batch_size / at.seconds, 1),
            },
        }
        if at.bad.total:
            record["bad_steps"] = at.bad.total
        due = self._falls_due(options.checkpoint_every)
        at.history.append(record)
        advice = warning(at.history, self.config)
        if advice:
            record["codebook"]["warning"] = advice
        at.epoch, at.step, at.seconds = at.epoch + 1, 0, 0.0
        self.totals = self._new_totals()
        if self.accelerator.is_main_process:
            name = f"{run_folder.RECONSTRUCTIONS}/epoch_{at.epoch:04d}.png"
            save_reconstructions(self.folder / name, self.eval_model, fixed_images(self.val_images))
            listener.closing(record)
        if due:
            if not processes.hold_the_same(self.accelerator, self.model):
                self._refuse("the processes do not hold the same weights and codebook any more")
            self._save()
        listener.epoch(record)

    def _falls_due(self, every: int) -> bool:
        """Whether the epoch that ends now is one of every so many, or the last."""
        number = self.position.epoch + 1
        return number % every == 0 or number == self.config.training.epochs

    def _test(self) -> dict[str, float]:
        options = self.config.training
        totals = totals_over(self.eval_model, self.val_images, options.batch_size)
        means = asdict(totals.means(self.beta))
        del means["batch_perplexity"]
        if not math.isfinite(means["loss"]):
            self._refuse(f"the loss over the images tested on is {means['loss']}")
        return {**means, "psnr": psnr(means["reconstruction_loss"])}

    def _health(self) -> dict[str, Any]:
        """Of the codebook; empty where there is none to look after."""
        codebook = self.model.quantizer.codebook
        return health(codebook)._asdict() if isinstance(codebook, Codebook) else {}

    def _save(self) -> None:
        """Weights, records, and last the checkpoint: what a crash leaves undone is done again."""
        if not self.accelerator.is_main_process:
            return
        if not self._finite():
            self._refuse("the weights are not finite")
        checkpoint.save_weights(self.folder / run_folder.WEIGHTS, self.eval_model)
        run_folder.write_epochs(self.folder, self.position.history)
        checkpoint.save(self.folder / run_folder.CHECKPOINT, self._state())

    def _parts(self) -> state.Parts:
        return state.Parts(self.model, self.average, self.optimizer, self.scaler, self.totals)

    def _state(self) -> Checkpoint:
        return state.capture(self._parts(), self.position)

    def _stop(self, interrupt: Interrupt) -> None:
        self.totals.reduce()
        self._save()
        assert interrupt.signal is not None
        raise Stopped(
            interrupt.signal,
            f"Stopped after {self.position.images:,} images; everything is saved in {self.folder}. "
            f"Go on with: rotvq train --out {shlex.quote(str(self.folder))} --resume",
        )

    def _finite(self) -> bool:
        return all(bool(t.isfinite().all()) for t in self.model.state_dict().values())

    def _check(self, means: Means) -> None:
        if not math.isfinite(means.loss):
            self._refuse(f"the loss is {means.loss}")

    def _refuse(self, reason: str) -> NoReturn:
        raise UserError(
            f"training: {reason} after {self.position.images:,} images. The last checkpoint in "
            f"{self.folder} is from before. Try a lower --training.learning_rate, "
            "--training.gradient_clip 0.1 or --training.precision fp32."
        )

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32")

    def _check_images(self) -> None:
        """See that images can be halved as often as the model does."""
        height, width = self.train_images.shape[2:]
        stride = 2**self.config.model.stages
        if height % stride or width % stride:
            raise UserError(
                f"data: expected height and width divisible by {stride} (2**model.stages); got "
                f"{height}x{width}. Pass --data.size or another --model.stages."
            )

    def _images(self) -> dict[str, Tensor]:
        images = {"train": self.train_images, "test": self.test_images}
        if self.validation_images is not None:
            images["validation"] = self.validation_images
        return images

    def _describe(self, command: str, start: dict[str, str] | None = None) -> None:
        record = describe(
            self.config, self.data, self._images(), self.model, self.precision, command, start
        )
        record["data"] |= self.samples.record
        if self.samples.note:
            record["data"]["notes"].append(self.samples.note)
        # The folder of a run can be loaded as a saved model too.
        write_json(self.folder / run_folder.MODEL, pretrained.describe(self.model))
        write_json(self.folder / run_folder.RUN, record)
        skipped.write(self.folder / run_folder.SKIPPED, self.data.skipped)
