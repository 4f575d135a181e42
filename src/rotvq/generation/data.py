"""The tokens of a prior in memory, as sequences of one length."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotvq.data_processing.splits import fingerprint
from rotvq.errors import UserError
from rotvq.generation.config import TokensConfig
from rotvq.generation.vocabulary import CLASSES, PREFIX, Grid, Vocabulary, numbered
from rotvq.paths import expanded
from rotvq.tokens.dataset import TokenDataset

Sequences = NDArray[np.int32]
"""Sequences of a vocabulary (n, t), padded with -1."""

HELD_OUT = 10
"""One of so many images is held out where there is no file of test tokens."""

_AT_A_TIME = 4096


@dataclass(frozen=True, eq=False)
class PriorData:
    """The tokens of a run.

    Args:
        vocabulary: what the integers of the sequences mean.
        train: the sequences to train on.
        test: the sequences to test on.
        notes: sentences to print.
    """

    vocabulary: Vocabulary
    train: Sequences
    test: Sequences
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """Number and fingerprint of the images of each split, for the record of a run."""
        return {
            name: {
                "images": len(some),
                "indices": int((some[:, PREFIX:] >= 0).sum()),
                "fingerprint": fingerprint([some]),
            }
            for name, some in (("train", self.train), ("test", self.test))
        }


def load(config: TokensConfig) -> PriorData:
    """Read the tokens of a run.

    Raises:
        UserError: a file is missing or damaged, its labels do not fit, or the test tokens are of
            another model or have another grid than the training tokens.
    """
    train, source = _read(config.train, "train")
    notes = []
    if config.test is None:
        train, test = _held_out(train)
        if len(train) > 1 and not test:
            raise UserError(
                f"tokens.train: expected images that share a grid, to hold some of them out; got "
                f"{len(train):,}, each of another grid. Encode them at one size (--size), or pass "
                "--tokens.test FILE."
            )
        notes.append(
            f"{len(test):,} of {len(train) + len(test):,} images are held out for testing. "
            "--tokens.test FILE tests on others."
        )
    else:
        test, other = _read(config.test, "test")
        if other.codec != source.codec:
            raise UserError(
                f"tokens.test: expected tokens of {source.codec}, as in tokens.train; got tokens "
                f"of {other.codec}. Encode both with one model."
            )
        if other.classes and source.classes and other.classes != source.classes:
            names = [*zip_longest(source.classes, other.classes, fillvalue="none")]
            number, pair = next((n, p) for n, p in enumerate(names) if p[0] != p[1])
            raise UserError(
                f"tokens.test: expected the classes of tokens.train; got class {number} {pair[1]} "
                f"instead of {pair[0]}. Encode both from one dataset, with --split train and "
                "--split test."
            )
    if not train or not test:
        raise UserError(
            f"tokens: expected images to train and to test on; got {len(train):,} and "
            f"{len(test):,}. Encode more images."
        )
    classes = _classes(config.classes, source.classes, [image.label for image in train])
    train, test = _limited(train, config.train_images), _limited(test, config.test_images)
    grids = Counter(image.grid for image in train)
    vocabulary = Vocabulary(source.codec, tuple(g for g, _ in grids.most_common()), classes)
    if not classes:
        notes.append("The tokens have no labels: the prior is unconditional.")
    for image in test:
        vocabulary.check_grid(image.grid)
        if classes and image.label >= len(classes):
            raise UserError(
                f"tokens.test: expected labels below {len(classes)}, as in the training tokens; "
                f"got {image.label}. Encode both from one dataset."
            )
    return PriorData(
        vocabulary, _packed(vocabulary, train), _packed(vocabulary, test), tuple(notes)
    )


@dataclass(frozen=True, eq=False)
class _Image:
    indices: NDArray[np.int32]
    label: int

    @property
    def grid(self) -> Grid:
        return self.indices.shape[0], self.indices.shape[1]


def _read(path: str, name: str) -> tuple[list[_Image], TokenDataset]:
    if not path:
        raise UserError(f"tokens.{name}: expected a token file or a folder of shards; got none.")
    dataset = TokenDataset(expanded(path))
    images = []
    for start in range(0, len(dataset), _AT_A_TIME):
        numbers = range(start, min(start + _AT_A_TIME, len(dataset)))
        # Small numbers, as there may be many images; -1 stands for no label.
        images += [
            _Image(indices.numpy().astype(np.int32), label)
            for indices, label, _ in dataset.__getitems__(numbers)
        ]
    bad = next((i.label for i in images if not -1 <= i.label < CLASSES), None)
    if bad is not None:
        raise UserError(f"tokens.{name}: expected labels from 0 to {CLASSES - 1:,}; got {bad}.")
    return images, dataset


def _held_out(images: list[_Image]) -> tuple[list[_Image], list[_Image]]:
    """Random images are held out whose grids remain among the others, and labels if possible."""
    grids, labels = Counter(i.grid for i in images), Counter(i.label for i in images)
    most, test = max(1, len(images) // HELD_OUT), set[int]()
    shuffled, classes = _shuffled(len(images)), max(labels, default=0)
    for missed in (0, classes):  # the last label remains, as it tells how many classes there are
        for number in shuffled:
            grid, label = images[number].grid, images[number].label
            keeps = grids[grid] > 1 and (labels[label] > 1 or label < missed)
            if keeps and len(test) < most and number not in test:
                test.add(number)
                grids[grid] -= 1
                labels[label] -= 1
    return (
        [image for number, image in enumerate(images) if number not in test],
        [images[number] for number in sorted(test)],
    )


def _limited(images: list[_Image], limit: int | None) -> list[_Image]:
    chosen = sorted(_shuffled(len(images))[:limit])
    return [images[number] for number in chosen]


def _shuffled(n: int) -> list[int]:
    """Random numbers of images: evenly spaced ones would share a class where classes alternate."""
    return np.random.default_rng(0).permutation(n).tolist()


def _classes(names: str | None, own: tuple[str, ...], labels: list[int]) -> tuple[str, ...]:
    """The names that were given, or those in the token file, or numbers."""
    number = max(labels) + 1
    if names is None:
        return own if 0 < number <= len(own) else numbered(number)
    found = tuple(name.strip() for name in names.split(","))
    if not number:
        raise UserError(
            f"tokens.classes: expected no names for tokens without labels; got {names}. Leave them "
            "out, or encode a dataset that has labels."
        )
    if len(found) < number or len(set(found)) < len(found) or not all(found):
        raise UserError(
            f"tokens.classes: expected {number} different names, one for each label; got "
            f"{len(set(found))}. Separate them by commas."
        )
    return found


def _packed(vocabulary: Vocabulary, images: list[_Image]) -> Sequences:
    longest = max(map(vocabulary.length, vocabulary.grids))
    packed = np.full((len(images), PREFIX + longest), -1, np.int32)
    rows_of: dict[Grid, list[int]] = {}
    for n, image in enumerate(images):
        rows_of.setdefault(image.grid, []).append(n)
    for rows in rows_of.values():
        indices = np.stack([images[n].indices for n in rows]).astype(np.int64)
        labels = [images[n].label if vocabulary.classes else None for n in rows]
        found = vocabulary.sequences(indices, labels)
        packed[rows, : found.shape[1]] = found
    return packed
