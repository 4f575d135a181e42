"""The header of a token file: what its tokens mean."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from rotvq.errors import UserError
from rotvq.scales import LARGEST
from rotvq.tokens.collection import Codec, Tokens

FORMAT, VERSION, MULTI_SCALE = "rotvq tokens", 3, 4

_MAX_INDICES = 1024
"""Maximum number of indices of a token."""


def header(tokens: Tokens, recipe: str | None = None) -> dict[str, Any]:
    """The header as a JSON value.

    Args:
        tokens: tokens of the file.
        recipe: recipe of the shards, if the file is one of them.
    """
    described = {
        "format": FORMAT,
        "version": MULTI_SCALE if tokens.codec.scales else VERSION,
        **tokens.codec.header(),
        "images": len(tokens),
    }
    optional = {"classes": [*tokens.classes] or None, "recipe": recipe}
    return described | {key: value for key, value in optional.items() if value is not None}


def as_text(header: Mapping[str, Any]) -> dict[str, str]:
    """The header with text values only; lists become JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in header.items()
    }


def read_codec(header: Mapping[str, Any]) -> Codec:
    """The codec that a header describes.

    Raises:
        UserError: the header has a newer version.
        ValueError: it is not a header, or describes tokens that no model has.
    """
    if header.get("format") != FORMAT:
        raise ValueError(f"its format is {header.get('format')!r}")
    version = int(header["version"])
    if version > MULTI_SCALE:
        raise UserError(
            f"expected version {MULTI_SCALE} of the format or older; got version {version}. Update "
            "rotvq."
        )
    is_old = version == 1
    sizes = _numbers([header["codebook_size"]] if is_old else header["codebook_sizes"])
    shape = _numbers([] if is_old else header["index_shape"])
    stride, channels = int(header["stride"]), int(header["channels"])
    if not (1 <= stride <= 2**16 and channels in (1, 3)):
        raise ValueError(f"it has stride {stride} and {channels} channels")
    if not all(1 <= size < 2**63 for size in sizes) or not 1 <= len(sizes) <= _MAX_INDICES:
        raise ValueError(f"its codebook sizes are {sizes[:9]}")
    scales = _numbers(header.get("scales", []))
    if scales:
        return _multi_scale(Codec(str(header["model"]), sizes, stride, channels, shape, scales))
    if len(sizes) != math.prod(shape) or not all(n > 0 for n in shape):
        raise ValueError(f"it has {len(sizes)} codebooks and indices of shape {shape[:9]}")
    return Codec(str(header["model"]), sizes, stride, channels, shape)


def read_count(header: Mapping[str, Any]) -> int:
    """The number of images in the file.

    Raises:
        ValueError: it is not a number.
    """
    count = int(header["images"])
    if count < 0:
        raise ValueError(f"it has {count} images")
    return count


def read_classes(header: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes; empty if they have none.

    Raises:
        ValueError: they are not names.
    """
    classes = _list(header.get("classes", []))
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are not names")
    return tuple(classes)


def _multi_scale(codec: Codec) -> Codec:
    scales, (levels,) = codec.scales, codec.index_shape
    rising = all(a < b for a, b in pairwise((0, *scales, LARGEST)))
    if len(codec.codebook_sizes) != 1 or not rising or not 1 <= levels <= len(scales):
        raise ValueError(f"it has {levels} of the scales {scales[:9]}")
    return codec


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(map(int, _list(value)))


def _list(value: Any) -> Any:
    """A list, which files that hold only text have as JSON."""
    return json.loads(value) if isinstance(value, str) else value
