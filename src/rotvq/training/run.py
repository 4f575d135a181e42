"""A run in memory: its images, model and state, and what the loop does with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from rotvq import run_folder
from rotvq.data_processing import ImageData
from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.training import checkpoint, codebooks, environment, gradients, processes
from rotvq.training.averaging import moving_average
from rotvq.training.build import build_model
from rotvq.training.checkpoint import Position
from rotvq.training.config import Config
from rotvq.training.images import limited, load_images
from rotvq.training.optimizer import make_optimizer
from rotvq.training.samples import Samples
from rotvq.training.state import TrainingState


class TrainingRun:
    """A run in memory.

    Args:
        config: of the run.
        data: images in memory.
        folder: of the run; nothing is written yet.

    Raises:
        UserError: configuration, data and processes do not fit together.
    """

    def __init__(self, config: Config, data: ImageData, folder: Path) -> None:
        options = config.training
        self.config, self.data, self.folder = config, data, folder
        self.accelerator = processes.make_accelerator(options)
        self.device = self.accelerator.device
        self.precision = environment.resolve_precision(options.precision, self.device)
        self.share = processes.share(options, self.accelerator.num_processes)
        self.images = load_images(config, data, self.device)
        split = limited(data.train, config.data.train_images)
        self.samples = Samples(
            self.images.train, split, options.batch_size, options.seed, config.data.random_flip
        )
        self.steps = len(self.samples) // options.batch_size
        torch.manual_seed(options.seed)
        model = build_model(config).to(self.device)
        # One codebook update per optimizer step, however many micro-batches there are.
        model.quantizer.defer_update = True
        # torch's type of `to` lacks the memory format of modules.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = TrainingState(
            model,
            moving_average(model, options.ema_decay),
            make_optimizer(model, options),
            gradients.scaler(self.device, self.precision),
        )
        self.wrapped = processes.wrap(self.accelerator, model)

    @property
    def model(self) -> VQVAE:
        """The model that is trained."""
        return self.state.model

    @property
    def eval_model(self) -> VQVAE:
        """The model that is tested and saved: the moving average, if there is one."""
        return self.state.eval_model

    @property
    def position(self) -> Position:
        """Where the run stands."""
        return self.state.position

    @property
    def images_per_epoch(self) -> int:
        """Images trained on in each epoch."""
        return self.steps * self.config.training.batch_size

    def batch(self, order: Tensor, step: int, own: slice = slice(None)) -> Tensor:
        """The images of a step of the current epoch, or this process's own part of them."""
        size = self.config.training.batch_size
        numbers = order[step * size : (step + 1) * size][own]
        return self.samples.take(numbers, self.position.epoch).to(self.device)

    def place_codes(self, order: Tensor) -> None:
        """Place the codes of `init: data` at the start of an epoch of this order."""
        options = self.config.training
        number = codebooks.images_to_start_from(self.model, self.samples, options.batch_size)
        images = self.samples.take(order[:number], self.position.epoch).to(self.device)
        size = options.micro_batch_size or self.share
        codebooks.place_codes(self.model, images, size, self.accelerator, self.autocast)

    def autocast(self) -> torch.autocast:
        """The precision of the network, as a context."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32")

    def save(self) -> None:
        """Write weights, records, and last the checkpoint: whatever a crash cuts off is redone."""
        if not self.accelerator.is_main_process:
            return
        if not self.state.is_finite():
            self.refuse("the weights are not finite")
        checkpoint.save_weights(self.folder / run_folder.WEIGHTS, self.eval_model)
        run_folder.write_epochs(self.folder, self.position.history)
        checkpoint.save(self.folder / run_folder.CHECKPOINT, self.state.capture())

    def check_finite(self, name: str, loss: float) -> None:
        """Refuse to continue if a loss is not finite."""
        if not math.isfinite(loss):
            self.refuse(f"{name} is {loss}")

    def refuse(self, reason: str) -> NoReturn:
        """End the run with an error."""
        raise UserError(
            f"training: {reason} after {self.position.images:,} images. The last checkpoint in "
            f"{self.folder} is older and intact. Try a lower --training.learning_rate, "
            "--training.gradient_clip 0.1 or --training.precision fp32."
        )
