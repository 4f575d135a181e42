"""rotvq serve: a local page to play with a model's tokens."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from rotvq.cli.coding import load_model
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError

CLIENTS = 200
"""Connections at a time; one more is told to come later."""


def run(argv: Sequence[str]) -> int:
    """Serve the page until Ctrl-C. Returns the exit status."""
    parser = Parser(
        prog="rotvq serve",
        description="Open a page on this machine: drop a picture, see its tokens, change them, and "
        "watch the picture change.",
        epilog="example: rotvq serve runs/mine",
    )
    parser.add_argument("model", help="folder of a run or a saved model, or owner/name on the hub")
    parser.add_argument("--port", type=int, default=8000, help="(default: 8000; 0: any)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    options = parser.parse_args(argv)
    if not 0 <= options.port < 65536:
        raise UserError(f"--port: expected 0 to 65535; got {options.port}.")
    try:
        import uvicorn

        from rotvq.serving.app import make
    except ImportError:
        raise UserError(
            "serve: expected starlette and uvicorn; they are not installed. Run pip install "
            "'rotvq[serve]'"
        ) from None
    from rotvq.serving.session import Session

    bound = _bound(options.host, options.port)
    with bound:
        app = make(Session(load_model(options.model)), ["127.0.0.1", "localhost", options.host])
        address = f"http://{options.host}:{bound.getsockname()[1]}"
        Terminal().say(f"Serving {options.model} on {address}. Ctrl-C ends it.")
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", timeout_graceful_shutdown=1, limit_concurrency=CLIENTS
            )
        )
        server.run(sockets=[bound])
    return 0


def _bound(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: expected a free address; {error.strerror or error}. "
            "Choose another port, or 0 for any."
        ) from None
