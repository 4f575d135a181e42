"""Checks of the values of a configuration."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rotvq.errors import UserError

SHORT = reprlib.Repr()
"""Shortens values in messages: nested YAML aliases can expand to more text than fits in memory."""
SHORT.maxlevel, SHORT.maxstring = 2, 200


def check_types(part: Any) -> None:
    """Check the type of every field; no parser does that for a file edited by hand.

    Raises:
        UserError: a value has another type.
    """
    for name, hint in get_type_hints(type(part)).items():
        value = getattr(part, name)
        kinds = get_args(hint) or (hint,)
        if get_origin(hint) is Literal:
            require(value in kinds, name, " or ".join(map(str, kinds)), SHORT.repr(value))
        else:
            widened = (*kinds, int) if float in kinds else kinds
            names = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
            fits = isinstance(value, widened) and isinstance(value, bool) == (bool in kinds)
            require(fits, name, names, SHORT.repr(value))


def check_fields(
    part: Any, group: str, expected: str, fits: Callable[[Any], bool], *names: str
) -> None:
    """Check fields that have the same range; null is allowed.

    Args:
        part: a group of options.
        group: name of the group.
        expected: the range in words.
        fits: whether a value lies in the range.
        names: names of the fields.

    Raises:
        UserError: a value is out of range.
    """
    for name in names:
        value = getattr(part, name)
        require(value is None or fits(value), f"{group}.{name}", expected, value)


def require(holds: bool, name: str, expected: str, received: object) -> None:
    """Raise a UserError unless a condition holds."""
    if not holds:
        raise UserError(f"{name}: expected {expected}; got {received}.")
