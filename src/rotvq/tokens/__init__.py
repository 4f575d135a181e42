"""Images to tokens and back, token files, and a dataset of tokens.

`TokenDataset` is imported on first use, so that `rotvq --help` does not wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rotvq.tokens.dataset import TokenDataset

__all__ = ["TokenDataset"]


def __getattr__(name: str) -> Any:
    if name != "TokenDataset":
        raise AttributeError(f"module 'rotvq.tokens' has no attribute {name!r}")
    from rotvq.tokens.dataset import TokenDataset

    return TokenDataset
