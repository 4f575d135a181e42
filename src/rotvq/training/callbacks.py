"""Callbacks: how progress bars, trackers and studies follow a run."""

from __future__ import annotations

from typing import Any


class Callback:
    """Base class of everything that follows a run: override the methods that you need.

    With several processes, only the main one calls them.
    """

    def on_images(self, images: int, means: Any) -> None:
        """Called about twice a second and at the end of each epoch.

        Args:
            images: number of images trained on since the start of the run.
            means: means over the current epoch so far, a dataclass with a `loss`:
                `rotvq.evaluation.metrics.Means` of a tokenizer, `rotvq.generation.totals.Means` of
                a prior.
        """

    def on_bad_step(self, message: str) -> None:
        """Called after a step with non-finite gradients was skipped.

        Args:
            message: one sentence.
        """

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        """Called after each epoch, before its checkpoint is written.

        What you write here is written again if the run is killed before its checkpoint.

        Args:
            record: the epoch's line in epochs.jsonl.
        """
