"""The HTTP application: the page and its API. Nothing from a request is written to disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from importlib.resources import files
from threading import Event
from typing import TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rotvq.errors import UserError
from rotvq.names import EFFORTS
from rotvq.serving import pictures, requests, token_file
from rotvq.serving.requests import HEADERS, Answer, answering
from rotvq.serving.session import Session, Stopped
from rotvq.serving.worker import Worker

T = TypeVar("T")

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def make(sessions: Sequence[Session], hosts: list[str]) -> Starlette:
    """The application; `app.state.workers` compute its answers.

    Args:
        sessions: with the models.
        hosts: host names to accept. Others are refused, which protects against DNS rebinding.
    """
    # Drawing and searching take seconds, during which painting goes on.
    quick, slow = workers = Worker(), Worker()
    shares: dict[int, float] = {}  # of the searches under way, by the numbers that pages chose
    # Palettes take a second or two: ready when the browser is.
    quick.prepare(lambda: [(session.about, session.codes) for session in sessions])

    def chosen(request: Request) -> Session:
        session = sessions[requests.number(request, "model", len(sessions))]
        if request.query_params.get("of", session.codec.model) != session.codec.model:
            raise UserError("other models are served since this page was opened: reload the page.")
        return session

    async def about(request: Request) -> Response:
        return JSONResponse(
            {
                "models": await quick.do(lambda: [session.about for session in sessions]),
                "photographs": pictures.photographs(),
                "accepted": [*pictures.ACCEPTED, token_file.SUFFIX],
                "largest": requests.LARGEST,
                "efforts": len(EFFORTS),
            }
        )

    async def codes(request: Request) -> Response:
        session = chosen(request)
        return _png(await quick.do(lambda: session.codes))

    async def photograph(request: Request) -> Response:
        name = request.path_params["name"]
        return _png(await quick.do(lambda: pictures.photograph(name)))

    async def open_picture(request: Request) -> Response:
        content = await requests.body(request, requests.LARGEST)
        return _png(await quick.do(lambda: pictures.png(pictures.read(content, 3))))

    async def open_tokens(request: Request) -> Response:
        content = await requests.body(request, requests.LARGEST)
        return JSONResponse(await quick.do(lambda: token_file.opened(content, sessions)))

    async def encode(request: Request) -> Response:
        session, effort = chosen(request), requests.number(request, "effort", len(EFFORTS))
        search = requests.number(request, "search", requests.SEARCHES)
        content = await requests.body(request, requests.LARGEST)
        if not effort:
            return JSONResponse(await quick.do(lambda: session.encode(content)))
        left = Event()

        def step(share: float) -> None:
            if left.is_set():
                raise Stopped
            shares[search] = share

        call = slow.do(lambda: session.encode(content, effort, step))
        try:
            return JSONResponse(await _while_connected(request, call, left))
        finally:
            shares.pop(search, None)

    async def progress(request: Request) -> Response:
        search = requests.number(request, "search", requests.SEARCHES)
        return JSONResponse({"share": shares.get(search, 0)})

    async def decode(request: Request) -> Response:
        session, asked = chosen(request), await requests.tokens(request)
        return _png(await quick.do(lambda: session.decode(*asked)))

    async def tokens(request: Request) -> Response:
        session, asked = chosen(request), await requests.tokens(request)
        content = await quick.do(lambda: session.token_file(*asked))
        return Response(content, media_type="application/octet-stream")

    async def bits(request: Request) -> Response:
        session, asked = chosen(request), await requests.tokens(request)
        return JSONResponse({"bits": await quick.do(lambda: session.bits(*asked))})

    async def draw(request: Request) -> Response:
        session, asked = chosen(request), await requests.drawing(request)
        left = Event()

        def step() -> None:
            if left.is_set():
                raise Stopped

        call = slow.do(lambda: session.prior.draw(**asked, step=step))
        return JSONResponse({"pictures": await _while_connected(request, call, left)})

    app = Starlette(
        routes=[
            *_page(),
            Route("/about", answering(about)),
            Route("/codes.png", answering(codes)),
            Route("/photographs/{name}.png", answering(photograph)),
            Route("/open", answering(open_picture), methods=["POST"]),
            Route("/open-tokens", answering(open_tokens), methods=["POST"]),
            Route("/encode", answering(encode), methods=["POST"]),
            Route("/progress", answering(progress)),
            Route("/decode", answering(decode), methods=["POST"]),
            Route("/tokens", answering(tokens), methods=["POST"]),
            Route("/bits", answering(bits), methods=["POST"]),
            Route("/draw", answering(draw), methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )
    app.state.workers = workers
    return app


async def _while_connected(request: Request, call: Awaitable[T], left: Event) -> T:
    """The result of a call, which is told when the client has left."""
    task = asyncio.ensure_future(call)
    while not task.done():
        await asyncio.wait({task}, timeout=0.3)
        if await request.is_disconnected():
            left.set()
    return task.result()


def _page() -> list[Route]:
    """The files of the page, by their names alone."""
    folder = files("rotvq.serving") / "page"
    names = [path.name for path in folder.iterdir()]
    routes = [Route(f"/{name}", _file(name)) for name in names if name.split(".")[-1] in KINDS]
    return [Route("/", _file("index.html")), *routes]


def _file(name: str) -> Answer:
    async def file(request: Request) -> Response:
        content = (files("rotvq.serving") / "page" / name).read_bytes()
        return Response(content, media_type=KINDS[name.split(".")[-1]], headers=HEADERS)

    return file


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")
