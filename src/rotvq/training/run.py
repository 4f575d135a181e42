"""A run in memory: model, state, and what the training loop needs from both."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn

import torch
from torch import Tensor, nn

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.training import checkpoint, environment, gradients, processes
from rotvq.training.averaging import moving_average
from rotvq.training.checkpoint import Position
from rotvq.training.config import OptimizationConfig
from rotvq.training.optimizer import make_optimizer
from rotvq.training.state import M, S, TrainingState


class TrainingRun(ABC, Generic[M, S]):
    """A run in memory; subclasses define what is trained and on what data.

    Args:
        options: options of the run.
        folder: the run folder; nothing is written yet.

    Attributes:
        command: the command that continues the run, as in `rotvq train`.
        steps: steps per epoch.
        state: everything that changes during training.

    Raises:
        UserError: the batch does not divide into processes and micro-batches.
    """

    command = "train"
    steps: int
    state: TrainingState[M, S]

    def __init__(self, options: OptimizationConfig, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.accelerator = processes.make_accelerator(options)
        self.device = self.accelerator.device
        self.precision = environment.resolve_precision(options.precision, self.device)
        self.share = processes.share(options, self.accelerator.num_processes)

    def _start(
        self,
        model: M,
        parts: Sequence[nn.Module],
        totals: S,
        objective: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        """Create the training state of a model that is already on the device.

        Args:
            model: the model being trained.
            parts: the parts of the model whose matrices Muon updates.
            totals: sums over an epoch.
            objective: the module that contains the model and is called in its place.
            discriminator: trained together with the model; also part of the objective.
        """
        self.state = TrainingState(
            model,
            moving_average(model, self.options.ema_decay),
            make_optimizer(model, self.options, parts, discriminator),
            gradients.scaler(self.device, self.precision),
            totals,
            discriminator=discriminator,
        )
        self.wrapped = processes.wrap(self.accelerator, objective or model)

    @abstractmethod
    def order(self, epoch: int) -> Tensor:
        """The numbers of an epoch's samples, shuffled."""

    @abstractmethod
    def batch(self, order: Tensor, step: int, own: slice = slice(None)) -> Tensor:
        """The samples of a step of the current epoch, or this process's own part of them."""

    @abstractmethod
    def loss(self, samples: Tensor) -> Tensor:
        """The mean loss of a micro-batch, a scalar; it is added to the sums of the epoch."""

    def before_step(self, order: Tensor, progress: float) -> None:
        """Called before each step, with the order of the epoch and the share of steps done."""

    def after_step(self) -> None:
        """Called after each step of the optimizer."""

    @abstractmethod
    def means(self) -> Any:
        """Means over the epoch so far: a dataclass with a `loss`."""

    @property
    def repeatable(self) -> bool:
        """Whether all steps launch the same kernels, and never wait for the device."""
        return False

    @abstractmethod
    def epoch_record(self) -> dict[str, Any]:
        """The record of the epoch that ends now: a line of epochs.jsonl."""

    def draw(self) -> None:
        """Write the picture of the epoch that has ended."""

    def facts(self) -> dict[str, Any]:
        """Additional facts to report about a step with non-finite gradients."""
        return {}

    @property
    def model(self) -> M:
        """The model that is trained."""
        return self.state.model

    @property
    def eval_model(self) -> M:
        """The model that is tested and saved: the moving average, if there is one."""
        return self.state.eval_model

    @property
    def position(self) -> Position:
        """Where the run stands."""
        return self.state.position

    @property
    def images_per_epoch(self) -> int:
        """Images trained on in each epoch."""
        return self.steps * self.options.batch_size

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
