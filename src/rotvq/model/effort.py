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


def check_searched(effort: int, asked: bool) -> None:
    """Check that there is a search if something is asked of it.

    Args:
        effort: 0 to 9.
        asked: whether an error or a rate was passed.

    Raises:
        UserError: it would be ignored.
    """
    if asked and not iterations(effort):
        raise UserError(
            "effort: expected 1 to 9 with an error or a rate of your own, which only a search "
            "lowers; got 0. Pass effort=4."
        )
