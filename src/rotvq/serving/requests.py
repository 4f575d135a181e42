"""What requests carry, read with limits, and the responses to mistakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from rotvq.errors import UserError
from rotvq.generation.config import Sampling
from rotvq.serving.session import Stopped

LARGEST, LARGEST_GRID = 10 * 2**20, 2**20
"""Bytes of an image, and of a grid of tokens as JSON, at most."""

SEARCHES = 10**9
"""Numbers of searches are below it."""

PATIENCE = 30
"""Seconds for a request to arrive completely."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Answer = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


def answering(answer: Answer) -> Answer:
    """Respond to a UserError with its message and status 400."""

    async def answered(request: Request) -> Response:
        try:
            if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
                raise UserError("expected a request from this page; got one from another site.")
            response = await answer(request)
        except UserError as error:
            response = JSONResponse({"error": str(error)}, status_code=400)
        except (ClientDisconnect, Stopped):
            response = Response(status_code=400)  # nobody reads it
        except asyncio.CancelledError:  # Ctrl-C
            response = Response(status_code=503)
        response.headers.update(HEADERS)
        return response

    return answered


async def body(request: Request, largest: int) -> bytes:
    """The body of a request.

    Raises:
        UserError: it is too large, or does not arrive.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                content += part
                if len(content) > largest:
                    raise UserError(f"expected at most {largest // 2**20} MiB; got more.")
    except TimeoutError:
        raise UserError(f"expected the request within {PATIENCE} seconds.") from None
    return bytes(content)


async def tokens(request: Request) -> tuple[int, int, list[int]]:
    """Height and width in pixels, and indices, from JSON.

    Raises:
        UserError: it is something else.
    """
    return _parsed(
        await body(request, LARGEST_GRID),
        lambda asked: (int(asked["height"]), int(asked["width"]), _integers(asked["indices"])),
        "height, width and indices",
    )


async def drawing(request: Request) -> dict[str, Any]:
    """The arguments of `Drawing.draw`, from JSON.

    Raises:
        UserError: it is something else, or a value is not allowed.
    """
    return _parsed(
        await body(request, LARGEST_GRID),
        lambda asked: {
            "grid": (int(asked["rows"]), int(asked["columns"])),
            "labels": [None if label is None else int(label) for label in asked["labels"]],
            "given": _integers(asked["given"]),
            "sampling": Sampling(
                guidance=float(asked["guidance"]),
                temperature=float(asked["temperature"]),
                seed=int(asked["seed"]),
            ),
        },
        "rows, columns, labels, given, temperature, guidance and seed",
    )


def number(request: Request, name: str, below: int) -> int:
    """A parameter of the address; 0 if it is not there.

    Raises:
        UserError: it is not an integer from 0 to below `below`.
    """
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < below):
        raise UserError(f"{name}: expected an integer from 0 to {below - 1}; got {text[:40]}.")
    return int(text)


def _integers(values: list[Any]) -> list[int]:
    return [int(value) for value in values]


def _parsed(content: bytes, parse: Callable[[Any], T], expected: str) -> T:
    try:
        return parse(json.loads(content))
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UserError(f"expected JSON with {expected}.") from None
