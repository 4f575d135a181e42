"""rotvq serve: a local page to play with a model's tokens."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from rotvq.cli.coding import load_model
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError, installation

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
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="name or address by which others ask for the page, where --host is 0.0.0.0 (may be "
        "given again)",
    )
    options = parser.parse_args(argv)
    if ":" in options.host:
        raise UserError(f"--host: expected a name or an address of IPv4; got {options.host}.")
    if options.host == "0.0.0.0" and not options.name:
        raise UserError(
            "--host 0.0.0.0: expected --name too, the name or address by which others will ask for "
            "the page; other names are refused."
        )
    if not 0 <= options.port < 65536:
        raise UserError(f"--port: expected 0 to 65535; got {options.port}.")
    try:
        import uvicorn

        from rotvq.serving.app import make
    except ImportError:
        raise UserError(
            "serve: expected starlette and uvicorn; they are not installed. "
            + installation("serve")
        ) from None
    from rotvq.serving.session import Session

    bound = _bound(options.host, options.port)
    with bound:
        hosts = ["127.0.0.1", "localhost", options.host, *options.name]
        app = make(Session(load_model(options.model)), hosts)
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
