"""A prior over tokens: training, sampling, measures.

Names are imported on first use, so that the command line does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rotvq.generation.config import PriorConfig, Sampling
    from rotvq.generation.evaluation import evaluate
    from rotvq.generation.measures import measure
    from rotvq.generation.prior import Prior
    from rotvq.generation.rate import PriorRate
    from rotvq.generation.sampling import sample
    from rotvq.generation.trainer import PriorTrainer
    from rotvq.generation.vocabulary import Vocabulary

_HOME = {
    "Prior": "prior",
    "PriorConfig": "config",
    "PriorRate": "rate",
    "PriorTrainer": "trainer",
    "Sampling": "config",
    "Vocabulary": "vocabulary",
    "evaluate": "evaluation",
    "measure": "measures",
    "sample": "sampling",
}

__all__ = [
    "Prior",
    "PriorConfig",
    "PriorRate",
    "PriorTrainer",
    "Sampling",
    "Vocabulary",
    "evaluate",
    "measure",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rotvq.generation' has no attribute {name!r}")
    return getattr(import_module(f"rotvq.generation.{_HOME[name]}"), name)
