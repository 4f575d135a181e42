"""A folder of token shards: which images each file holds, and how all of them were made.

`index.json` is the recipe: the model's fingerprint and the meaning of its tokens, the effort and
what it is tuned for, the source and its fingerprint, and the number of images in a shard. Shard i
holds the images from i · shard_size on, except those that cannot be decoded, which `….skipped.tsv`
lists. The header of each shard names the recipe, so a shard of another one never counts as done.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rotvq import files
from rotvq.errors import UserError
from rotvq.guarded import check_not_file
from rotvq.names import TuneName
from rotvq.tokens.collection import Codec
from rotvq.tokens.file import KINDS, Header, read_header

INDEX = "index.json"
FORMAT, VERSION = "rotvq token shards", 1
_NAME = re.compile(r"tokens-\d{5,}-of-\d{5,}(\.[a-z]+|\.skipped\.tsv)")


@dataclass(frozen=True)
class Shards:
    """The shards of a recipe in a folder.

    Args:
        folder: the folder of the shards.
        recipe: the content of its index.
    """

    folder: Path
    recipe: Mapping[str, Any]

    def __len__(self) -> int:
        return -(-self.recipe["images"] // self.recipe["shard_size"])

    @property
    def id(self) -> str:
        """The recipe's ID: 16 hex digits of its SHA-256."""
        return hashlib.sha256(files.to_json(self.recipe).encode()).hexdigest()[:16]

    def path(self, number: int) -> Path:
        """The file of a shard."""
        name = f"tokens-{number:05d}-of-{len(self):05d}{self.recipe['suffix']}"
        return self.folder / name

    def skipped(self, number: int) -> Path:
        """The list of a shard's images that could not be decoded; there is none if all could."""
        return self.path(number).with_suffix(".skipped.tsv")

    def rows(self, number: int) -> range:
        """The images of a shard, by their number in the source."""
        start, size = number * self.recipe["shard_size"], self.recipe["shard_size"]
        return range(start, min(start + size, self.recipe["images"]))

    def header(self, number: int) -> Header | None:
        """The header of a shard; None if it is not done."""
        try:
            header = read_header(self.path(number))
        except UserError:  # there is none, or it is damaged
            return None
        return header if header.get("recipe") == self.id else None


def recipe(
    codec: Codec,
    effort: int,
    images: int,
    source: str,
    shard_size: int,
    suffix: str,
    classes: Sequence[str] = (),
    tune: TuneName = "psnr",
) -> dict[str, Any]:
    """Everything that determines the content of the shards.

    Args:
        codec: the model's codec.
        effort: effort of the search for tokens.
        images: number of images in the source.
        source: fingerprint of the source.
        shard_size: maximum number of images in a shard.
        suffix: suffix of the files.
        classes: names of the classes by label; empty if they have none.
        tune: the measure that the search for tokens is for.

    Raises:
        UserError: the shard size is below 1, or no token file has this suffix.
    """
    if not images:
        raise UserError("IMAGES: expected images; found none.")
    if shard_size < 1:
        raise UserError(f"--shard-size: expected 1 or more; got {shard_size}.")
    if suffix not in KINDS:
        raise UserError(f"--format: expected {', '.join(KINDS)}; got {suffix}.")
    return {
        "format": FORMAT,
        "version": VERSION,
        **codec.header(),
        "effort": effort,
        "images": images,
        "source": source,
        "shard_size": shard_size,
        "suffix": suffix,
        **({"classes": [*classes]} if classes else {}),
        **({"tune": tune} if tune != "psnr" else {}),
    }


def prepare(shards: Shards, overwrite: bool) -> None:
    """Prepare the folder for its shards; shards of the same recipe are kept.

    Several processes may do so at once.

    Raises:
        UserError: the folder is a file, or holds anything else and `overwrite` is off.
    """
    folder = shards.folder
    check_not_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_abandoned(folder)
    before = _index(folder)
    if before == shards.recipe:
        return
    if not overwrite:
        _refuse(folder, before, shards.recipe)
    names = {f(number) for number in range(len(shards)) for f in (shards.path, shards.skipped)}
    for path in folder.glob("tokens-*"):
        own = _NAME.fullmatch(path.name) and path.is_file()
        if own and path not in names:  # of the recipe that is overwritten
            path.unlink(missing_ok=True)
    files.write_json(folder / INDEX, shards.recipe)


def finished(folder: Path) -> Iterator[tuple[Path, Header]]:
    """All shards of a folder in order, with their headers.

    Raises:
        UserError: the folder has no index, or a shard is not done.
    """
    found = _index(folder)
    if found is None:
        raise UserError(
            f"{folder}: expected token shards with {INDEX}; got none. Pass a folder that rotvq "
            "encode --shard-size wrote."
        )
    shards = Shards(folder, found)
    for number in range(len(shards)):
        header = shards.header(number)
        if header is None:
            raise UserError(
                f"{folder}: expected {len(shards):,} shards; {shards.path(number).name} is "
                "missing, damaged or of another recipe. Run the same rotvq encode again: it makes "
                "those that are missing."
            )
        yield shards.path(number), header


def _index(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / INDEX).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{folder / INDEX}: expected the index of token shards; got another file.")
    if found.get("version") != VERSION:
        raise UserError(
            f"{folder / INDEX}: expected version {VERSION}; got {found.get('version')}. Update "
            "rotvq."
        )
    numbers = [found.get(key) for key in ("images", "shard_size")]
    if not all(type(n) is int and n >= 1 for n in numbers) or found.get("suffix") not in KINDS:
        raise UserError(f"{folder / INDEX}: expected the index of token shards; it is damaged.")
    return found


def _refuse(folder: Path, before: dict[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Raise unless the folder is empty."""
    if before is not None:
        old, new = ({"tune": "psnr", **found} for found in (before, now))
        different = [key for key in old | new if old.get(key) != new.get(key)]
        told = "; ".join(f"{key} {old.get(key)} instead of {new.get(key)}" for key in different)
        raise UserError(
            f"{folder}: expected shards of the same model, source, effort, tune and size; got "
            f"{told}. Choose another --out, or replace them with --overwrite."
        )
    others = [p for p in folder.iterdir() if p.name != INDEX and not p.match(files.TEMPORARY)]
    # Another process of the same command may just have written the index, and then shards.
    if others and _index(folder) != now:
        raise UserError(
            f"--out: expected a new or empty folder, or one with shards; {folder} holds other "
            "files. Choose another folder, or pass --overwrite to add to it."
        )
