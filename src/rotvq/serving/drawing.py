"""What the page needs from a prior: new pictures, the rest of one, and the bits of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rotvq.errors import UserError
from rotvq.generation.config import Sampling
from rotvq.generation.evaluation import bits
from rotvq.generation.prior import Prior
from rotvq.generation.sampling import sample
from rotvq.generation.vocabulary import Grid
from rotvq.serving.pictures import SIDE

MOST = 16
"""Pictures drawn at a time, at most."""


class Drawing:
    """Draws with a prior.

    Args:
        prior: over the tokens of a model with a single codebook.

    Raises:
        UserError: its pictures are larger than the page shows.
    """

    def __init__(self, prior: Prior) -> None:
        self.prior, vocabulary = prior.eval(), prior.vocabulary
        most = SIDE // vocabulary.codec.stride
        self.grids = [grid for grid in vocabulary.grids if max(grid) <= most]
        if not self.grids:
            rows, columns = vocabulary.grids[0]
            raise UserError(
                f"--prior: expected one over pictures of at most {most}x{most} tokens, which the "
                f"page shows; got {rows}x{columns}. To draw with it, use rotvq sample."
            )

    @property
    def about(self) -> dict[str, Any]:
        """Classes, grids that the page shows (most frequent first), and whether it can guide."""
        vocabulary = self.prior.vocabulary
        return {
            "classes": [*vocabulary.classes],
            "grids": self.grids,
            "guided": self.prior.config.drop_labels > 0,
        }

    def draw(
        self,
        grid: Grid,
        labels: Sequence[int | None],
        sampling: Sampling,
        given: Sequence[int] = (),
        step: Callable[[], object] = lambda: None,
    ) -> list[list[int]]:
        """The indices of new pictures, row by row, one for each label.

        Args:
            grid: rows and columns of tokens.
            labels: class of each picture; None for no given class.
            sampling: how to draw.
            given: the first indices of all of them.
            step: called before each index; an exception of it ends the drawing.

        Raises:
            UserError: the prior has no such class, grid or code; there are too many labels, or more
                indices than the grid has.
        """
        if not 1 <= len(labels) <= MOST:
            raise UserError(f"labels: expected 1 to {MOST}; got {len(labels)}.")
        self.prior.vocabulary.check_grid(grid)
        (size,) = self.prior.vocabulary.codec.codebook_sizes
        most = grid[0] * grid[1]
        if len(given) > most or not all(0 <= index < size for index in given):
            raise UserError(f"given: expected at most {most} indices, from 0 to {size - 1}.")
        first = np.array([given] * len(labels), np.int64)[..., None] if given else None
        tokens = sample(self.prior, labels, sampling, grid=grid, given=first, step=step)
        return [indices.flatten().tolist() for indices in tokens]

    def bits(self, indices: NDArray[np.int64]) -> float:
        """The code length of a picture (rows, columns) under the prior, with no class given.

        Raises:
            UserError: the prior has no such grid.
        """
        sequences = self.prior.vocabulary.sequences(indices[None], [None])
        return bits(self.prior, torch.from_numpy(sequences)).bits_per_image
