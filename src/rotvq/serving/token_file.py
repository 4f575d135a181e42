"""Token files that the page opens again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rotvq.errors import UserError
from rotvq.serving.pictures import SIDE
from rotvq.serving.session import Session
from rotvq.tokens.file import from_npz

SUFFIX = ".npz"


def opened(content: bytes, sessions: Sequence[Session]) -> dict[str, Any]:
    """The first picture of a token file.

    Returns:
        what `Session.encode` returns, with `number`, that of the model that encoded it, and
        `pictures`, how many there are.

    Raises:
        UserError: it is not a token file, none of the models encoded it, or its first picture is
            larger than those of the page.
    """
    tokens = from_npz(content)
    number = next((n for n, s in enumerate(sessions) if s.codec == tokens.codec), None)
    if number is None:
        raise UserError(
            f"expected tokens of a model on this page; got tokens of the model "
            f"{tokens.codec.model}. Serve that model, then open them again."
        )
    if not len(tokens):
        raise UserError("expected the tokens of a picture; the file holds none.")
    (height, width), indices = tokens.sizes[0], tokens[0]
    if max(height, width) > SIDE:
        raise UserError(
            f"expected a picture of at most {SIDE} pixels a side; got {height}x{width}. To see it, "
            "use rotvq decode."
        )
    return {
        "number": number,
        "pictures": len(tokens),
        "height": height,
        "width": width,
        "rows": indices.shape[0],
        "columns": indices.shape[1],
        "indices": indices.flatten().tolist(),
    }
