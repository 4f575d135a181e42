"""The HTTP application: the page and its API. Nothing from a request is written to disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rotvq.errors import UserError
from rotvq.serving.session import Session, sample
from rotvq.serving.worker import Worker

LARGEST, LARGEST_GRID = 10 * 2**20, 2**20
"""Bytes of an image, and of a grid of tokens as JSON, at most."""

PATIENCE = 30
"""Seconds for a request to arrive completely."""

PAGE = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Answer = Callable[[Request], Awaitable[Response]]


def make(session: Session, hosts: list[str]) -> Starlette:
    """The application; `app.state.worker` computes its answers.

    Args:
        session: with the model.
        hosts: host names to accept. Others are refused, which protects against DNS rebinding.
    """

    worker = Worker()

    async def encode(request: Request) -> Response:
        content = await _body(request)
        return JSONResponse(await worker.do(lambda: session.encode(content)))

    async def decode(request: Request) -> Response:
        content = await _body(request, LARGEST_GRID)
        return _png(await worker.do(lambda: session.decode(*_asked(content))))

    async def about(request: Request) -> Response:
        return JSONResponse(await worker.do(lambda: session.about))

    async def codes(request: Request) -> Response:
        return _png(await worker.do(lambda: session.codes))

    async def photograph(request: Request) -> Response:
        return _png(await worker.do(sample))

    routes = [Route(path, _file(*what)) for path, what in PAGE.items()]
    routes += [
        Route("/about", _answering(about)),
        Route("/codes.png", _answering(codes)),
        Route("/sample.png", _answering(photograph)),
        Route("/encode", _answering(encode), methods=["POST"]),
        Route("/decode", _answering(decode), methods=["POST"]),
    ]
    app = Starlette(
        routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]
    )
    app.state.worker = worker
    return app


def _answering(answer: Answer) -> Answer:
    """Respond to a UserError with its message and status 400."""

    async def answered(request: Request) -> Response:
        try:
            if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
                raise UserError("expected a request from this page; got one from another site.")
            response = await answer(request)
        except UserError as error:
            response = JSONResponse({"error": str(error)}, status_code=400)
        except ClientDisconnect:
            response = Response(status_code=400)  # nobody reads it
        except asyncio.CancelledError:  # Ctrl-C
            response = Response(status_code=503)
        response.headers.update(HEADERS)
        return response

    return answered


def _file(name: str, kind: str) -> Answer:
    async def file(request: Request) -> Response:
        content = (files("rotvq.serving") / "page" / name).read_bytes()
        return Response(content, media_type=kind, headers=HEADERS)

    return file


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _asked(content: bytes) -> tuple[int, int, list[int]]:
    try:
        asked = json.loads(content)
        return int(asked["height"]), int(asked["width"]), [int(i) for i in asked["indices"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UserError("expected JSON with height, width and indices.") from None


async def _body(request: Request, largest: int = LARGEST) -> bytes:
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
