"""A PyTorch dataset of the tokens of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rotvq.errors import UserError
from rotvq.paths import expanded
from rotvq.tokens.collection import Codec, Size
from rotvq.tokens.file import number_of_images, read_header, reading
from rotvq.tokens.header import read_classes, read_codec
from rotvq.tokens.mapped import MappedTokens
from rotvq.tokens.shards import finished

Item = tuple[Int64[Tensor, "..."], int, str]
"""Indices (rows, columns, *index_shape), label (-1 for none) and name ("" for none)."""


class TokenDataset(Dataset[Item]):
    """The images of a token file or a folder of shards, by number.

    An item is `(indices, label, name)`: int64 (rows, columns, *index_shape); the class, -1 for an
    image without one; and the name, "" for an image without one. Files ending in `.safetensors`
    are mapped to memory: nothing is loaded until it is used. Others are loaded, packed, when their
    first image is used. Works with any `DataLoader`, with its workers, forked or spawned, and with
    `DistributedSampler`.

    Args:
        path: a file or folder written by `rotvq encode`.

    Attributes:
        codec: what the tokens mean: `codebook_sizes`, `index_shape`, `stride`, and the `model`'s
            fingerprint.
        classes: names of the classes by label; empty if they have none.

    Raises:
        UserError: there is no such file, it is damaged, or a folder lacks shards.

    Examples:
        >>> dataset = TokenDataset("tokens")
        >>> loader = DataLoader(dataset, batch_size=256, shuffle=True, num_workers=2)
        >>> indices, labels, names = next(iter(loader))
    """

    def __init__(self, path: str | Path) -> None:
        path = expanded(path)
        found = [*finished(path)] if path.is_dir() else [(path, reading(path, read_header))]
        self._paths, headers = zip(*found, strict=True)
        self.codec: Codec = reading(self._paths[0], lambda _: read_codec(headers[0]))
        self.classes = reading(self._paths[0], lambda _: read_classes(headers[0]))
        self._ends = np.cumsum([number_of_images(*shard) for shard in found])
        self._open: dict[int, MappedTokens] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Several items at once, which is quicker; a `DataLoader` calls it for each batch.

        Raises:
            IndexError: there is no such image.
            UserError: a file is damaged.
        """
        numbers = np.asarray(indices, np.int64)
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        if ((numbers < 0) | (numbers >= len(self))).any():
            raise IndexError(f"expected numbers of {len(self):,} images; got {[*indices]!r:.80}")
        sizes, labels = np.empty((len(numbers), 2), np.int64), np.empty(len(numbers), np.int64)
        names, parts = [""] * len(numbers), list[_Part]()
        which = np.searchsorted(self._ends, numbers, "right")
        for shard in np.unique(which).tolist():
            where, mapped = np.flatnonzero(which == shard), self._mapped(shard)
            within = numbers[where] - (self._ends[shard] - len(mapped))
            sizes[where], offsets = mapped.places(within)
            labels[where] = mapped.labels(within)
            for i, name in zip(where.tolist(), mapped.names(within), strict=True):
                names[i] = name
            parts.append(_Part(where, mapped.packed, offsets))
        grids = [torch.empty(0)] * len(numbers)
        for size in {(height, width) for height, width in sizes.tolist()}:
            here = (sizes == size).all(1)
            found = self._indices(size, here, parts)
            for i, grid in zip(np.flatnonzero(here).tolist(), found.unbind(0), strict=True):
                grids[i] = grid
        return [*zip(grids, labels.tolist(), names, strict=True)]

    def _indices(self, size: Size, here: NDArray[np.bool_], parts: list[_Part]) -> Tensor:
        """The indices of images of one size, at positions `here` of the batch."""
        codec, length = self.codec, np.arange(self.codec.bytes_of(size))
        packed, row = np.empty((here.sum(), len(length)), np.uint8), here.cumsum() - 1
        for where, source, offsets in parts:
            own = here[where]
            packed[row[where[own]]] = source[offsets[own, None] + length]
        return torch.from_numpy(codec.unpacked(packed, codec.grid(size)))

    def _mapped(self, shard: int) -> MappedTokens:
        if shard not in self._open:
            mapped = MappedTokens(self._paths[shard])
            start = self._ends[shard - 1] if shard else 0
            if mapped.codec != self.codec or len(mapped) != self._ends[shard] - start:
                raise UserError(
                    f"{self._paths[shard]}: expected {self._ends[shard] - start:,} images of model "
                    f"{self.codec.model}; got {len(mapped):,} of model {mapped.codec.model}. "
                    "Encode the images again."
                )
            self._open[shard] = mapped
        return self._open[shard]

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the files itself.
        return vars(self) | {"_open": {}}


class _Part(NamedTuple):
    """The images of a batch that lie in one file: where in the batch, and where in the bytes."""

    where: NDArray[np.int64]
    packed: NDArray[np.uint8]
    offsets: NDArray[np.int64]
