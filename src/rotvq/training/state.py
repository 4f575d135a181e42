"""The state of a run: what a checkpoint saves, and how it is restored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from rotvq.errors import UserError
from rotvq.training.checkpoint import Checkpoint, Position
from rotvq.training.checkpoint_check import load_checked, placed
from rotvq.training.config import OptimizationConfig
from rotvq.training.optimizer import moments


class Sums(Protocol):
    """Sums over an epoch, on the device."""

    def reduce(self) -> None:
        """Sum over all processes, if there are several."""

    def state_dict(self) -> dict[str, Tensor]:
        """The sums."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from the tensors of `state_dict`."""


M = TypeVar("M", bound=nn.Module)
S = TypeVar("S", bound=Sums)


@dataclass
class TrainingState(Generic[M, S]):
    """Everything that changes while a run trains.

    Args:
        model: the model being trained.
        average: the moving average of the model, if there is one.
        optimizer: optimizer of the model's parameters.
        scaler: loss scaler for fp16; it also skips steps with non-finite gradients.
        totals: sums over the current epoch.
        position: where the run stands.
        discriminator: trained together with the model; None without one.
    """

    model: M
    average: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    totals: S
    position: Position = field(default_factory=Position)
    discriminator: nn.Module | None = None

    @property
    def trained(self) -> list[nn.Module]:
        """The modules that the optimizer updates: the model, and the discriminator."""
        return [self.model, *([self.discriminator] if self.discriminator else [])]

    @property
    def eval_model(self) -> M:
        """The model that is tested and saved: the moving average, if there is one."""
        return cast(M, self.average.module) if self.average else self.model

    def reset_totals(self) -> None:
        """Start the sums of a new epoch."""
        for t in self.totals.state_dict().values():
            t.zero_()

    def is_finite(self) -> bool:
        """Whether all weights and codes are finite."""
        states = [module.state_dict().values() for module in self.trained]
        return all(bool(t.isfinite().all()) for values in states for t in values)

    def capture(self) -> Checkpoint:
        """The state of this process as it is now, including torch's generator."""
        return Checkpoint(
            model=self.model.state_dict(),
            average=self.average.state_dict() if self.average else None,
            optimizer=_with_plain_rates(self.optimizer.state_dict()),
            scaler=self.scaler.state_dict(),
            generator=torch.get_rng_state(),
            totals=self.totals.state_dict(),
            position=self.position,
            discriminator=self.discriminator.state_dict() if self.discriminator else None,
        )

    def restore(self, path: Path, options: OptimizationConfig, steps: int, *, totals: bool) -> None:
        """Load a checkpoint after checking that all of it belongs to this run.

        Args:
            path: path of the checkpoint, in the folder of the run.
            options: options of the run.
            steps: steps per epoch.
            totals: whether this process takes the sums, which are those of all processes.

        Raises:
            UserError: the checkpoint is damaged or belongs to another run, or the run is past its
                epochs.
        """
        like = moments(self.optimizer)
        saved = load_checked(path, self.capture(), like, steps, options.batch_size)
        started = saved.position.epoch + (saved.position.step > 0)
        if options.epochs < started:
            raise UserError(
                f"training.epochs: expected {started} or more, because the run in {path.parent} "
                f"has started epoch {started}; got {options.epochs}. Choose another --out for a "
                "shorter run."
            )
        for module, values in (
            (self.model, saved.model),
            (self.average, saved.average),
            (self.discriminator, saved.discriminator),
        ):
            if module is not None and values is not None:
                # In the module's own state dict, whose metadata holds the versions of modules.
                own = module.state_dict()
                own.update(values)
                module.load_state_dict(own)
        self.optimizer.load_state_dict(placed(saved.optimizer, self.optimizer, like))
        if saved.scaler:
            self.scaler.load_state_dict(saved.scaler)
        torch.set_rng_state(saved.generator)
        if totals:
            self.totals.load_state_dict(saved.totals)
        self.position = saved.position


def _with_plain_rates(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state in which learning rates are numbers, on a GPU too."""
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}
