"""Who wants to know how a run goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rotvq.evaluation.metrics import Means


@dataclass(frozen=True)
class Listener:
    """Who wants to know how a run goes; every call is optional.

    Args:
        images: told how many images were trained on in all and the epoch's means so far.
        trouble: told in a sentence of a step that was left out.
        closing: told each completed epoch's record while its checkpoint is not written yet: what
            is done here is done again after a crash.
        epoch: told each completed epoch's record.
    """

    images: Callable[[int, Means], object] = lambda images, means: None
    trouble: Callable[[str], object] = lambda sentence: None
    closing: Callable[[dict[str, Any]], object] = lambda record: None
    epoch: Callable[[dict[str, Any]], object] = lambda record: None


def both(first: Listener, second: Listener) -> Listener:
    """A listener that tells two."""

    def telling(name: str) -> Callable[..., None]:
        def tell(*args: Any) -> None:
            getattr(first, name)(*args)
            getattr(second, name)(*args)

        return tell

    return Listener(*map(telling, ("images", "trouble", "closing", "epoch")))
