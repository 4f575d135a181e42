"""The life of a run: it begins or resumes in its folder, trains to the end, and is evaluated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rotvq import run_folder
from rotvq.files import write_json
from rotvq.paths import expanded
from rotvq.training import checkpoint, processes
from rotvq.training.callbacks import Callback
from rotvq.training.config import OptimizationConfig
from rotvq.training.folder import (
    check_free,
    check_same,
    check_same_data,
    prepare,
    prepare_resume,
)
from rotvq.training.interrupt import Interrupt, Stopped
from rotvq.training.lock import RunLock
from rotvq.training.loop import train
from rotvq.training.run import TrainingRun
from rotvq.training.state import M, S


class Lifecycle(TrainingRun[M, S]):
    """One run in one folder: `begin` or `resume` it, then `run` it to the end.

    Args:
        config: configuration of the run, a dataclass with the options in `training`.
        folder: the run folder. Nothing is written before `begin` or `resume`.

    Raises:
        UserError: configuration, data and processes do not fit together.
    """

    def __init__(self, config: Any, folder: str | Path) -> None:
        options: OptimizationConfig = config.training
        folder = expanded(folder)
        super().__init__(options, folder)
        self.config = config
        self.lock = RunLock(folder)

    @abstractmethod
    def _read_config(self) -> Any:
        """The configuration of the run in the folder."""

    @abstractmethod
    def _describe(self, command: str, start: dict[str, str] | None = None) -> None:
        """Write run.json and everything else that says what the run was made from."""

    @abstractmethod
    def _splits(self) -> dict[str, Any]:
        """Size and fingerprint of the data, as in run.json."""

    @abstractmethod
    def _evaluate(self) -> dict[str, Any]:
        """The record of the evaluation, at the end of the run."""

    def _check_resumed(self) -> None:
        """Check that everything else the run was made from still matches its record."""

    def _complete(self) -> None:
        """Write what else the folder of a resumed run lacks."""

    def _load_start(self) -> dict[str, str] | None:
        """Load the weights that the run starts from; returns their origin for the record."""
        return None

    def begin(self, command: str = "", *, overwrite: bool = False) -> None:
        """Create the folder of a new run.

        Args:
            command: the command line, for the record.
            overwrite: replace a run in the folder.

        Raises:
            UserError: the folder is not free, another process is training in it, or the model to
                start from cannot be loaded.
        """
        main, start = self.accelerator.is_main_process, self._load_start()
        if main:
            # Before the lock, which creates the folder.
            check_free(self.folder, overwrite)
        with self.lock.until_failure(main):
            if main:
                prepare(self.folder, self.config, overwrite=overwrite)
                self._describe(command, start)
            processes.check_shared(self.accelerator, self.folder, 0)
            if start:
                self.save()

    def resume(self) -> str:
        """Continue from the checkpoint in the folder, or start there if it has none.

        Returns:
            A sentence if a damaged checkpoint was replaced by the one before it, or nothing.

        Raises:
            UserError: there is no run, its configuration is another one, it was trained on other
                data or in another precision, its checkpoints are damaged, it is past its epochs, or
                another process is training it.
        """
        main, notice = self.accelerator.is_main_process, ""
        path = self.folder / run_folder.CHECKPOINT
        if main:
            # Before the lock, which creates the folder.
            check_same(self.folder, self._read_config(), self.config)
        with self.lock.until_failure(main):
            if main:
                if not (self.folder / run_folder.RUN).exists():
                    self._describe("", self._load_start())
                check_same_data(self.folder, self._splits(), self.precision)
                self._check_resumed()
                notice = checkpoint.settle(path)
            self.accelerator.wait_for_everyone()
            started = path.exists()
            processes.check_shared(self.accelerator, self.folder, 1 + started)
            if started:
                self.state.restore(path, self.options, self.steps, totals=main)
            else:
                self._load_start()
            # Last, so that a refusal leaves the folder as it was.
            if main:
                prepare_resume(self.folder, self.config)
                self._complete()
                if started:
                    checkpoint.save_weights(self.folder / run_folder.WEIGHTS, self.eval_model)
                    run_folder.write_epochs(self.folder, self.position.history)
        return notice

    def run(self, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
        """Train to the end and evaluate; returns the record of the evaluation.

        Raises:
            Stopped: a signal came, and the checkpoint is written. After the last epoch, the
                evaluation is completed and written too.
            UserError: the loss or too many gradients in a row are not finite.
        """
        trains = self.accelerator.is_main_process and self.position.epoch < self.options.epochs
        try:
            if trains:
                run_folder.forget_evaluations(self.folder)
            with Interrupt() as interrupt:
                train(self, callbacks, interrupt)
                if trains:  # also those made while it trained
                    run_folder.forget_evaluations(self.folder)
                record = self._evaluate()
            if self.accelerator.is_main_process:
                run_folder.write_epochs(self.folder, self.position.history)
                write_json(self.folder / run_folder.EVALUATION, record)
                checkpoint.before(self.folder / run_folder.CHECKPOINT).unlink(missing_ok=True)
        finally:
            self.lock.release()
        if interrupt.signal is not None:
            raise Stopped(interrupt.signal, f"Stopped; the run in {self.folder} is finished.")
        return record
