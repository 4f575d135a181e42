"""How progress follows a plan of runs."""

from __future__ import annotations

from rotvq.errors import UserError
from rotvq.studies.plan import Run
from rotvq.training.callbacks import Callback


class StudyCallback(Callback):
    """Base class of what follows a plan; the methods of `Callback` are about the current run."""

    def on_run_begin(self, run: Run) -> None:
        """Called before a run is trained and measured."""

    def on_measure(self, run: Run, name: str) -> None:
        """Called before each measurement of a trained run."""

    def on_run_end(self, run: Run) -> None:
        """Called after a run is trained and measured."""

    def on_run_failed(self, run: Run, error: UserError) -> None:
        """Called when a run could not be completed; the plan continues with the next."""
