"""Efforts of encoding: 0 takes the nearest codes; higher ones search longer for better tokens."""

from __future__ import annotations

from rotvq.errors import UserError
from rotvq.names import EFFORTS


def iterations(effort: int) -> int:
    """Iterations of a search.

    Raises:
        UserError: the effort is not an integer from 0 to 9.
    """
    if type(effort) is not int or effort not in range(len(EFFORTS)):
        raise UserError(
            f"effort: expected an integer from 0 to {len(EFFORTS) - 1}; got {effort!r}."
        )
    return EFFORTS[effort]
