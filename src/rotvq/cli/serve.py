"""rotvq serve: a local web page to explore and edit the tokens of images."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from rotvq import bundled
from rotvq.cli.coding import MODELS, load_model
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError


def run(argv: Sequence[str]) -> int:
    """Serve the page until Ctrl-C. Returns the exit status."""
    parser = Parser(
        prog="rotvq serve",
        description="Serve a web page on this machine: drop an image, see its tokens, edit them, "
        "and watch the image change.",
        epilog="example: rotvq serve runs/mine",
    )
    parser.add_argument(
        "model",
        nargs="?",
        default=bundled.DEFAULT,
        help=f"{MODELS} (default: {bundled.DEFAULT})",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="port (default: 8000; 0: any free port)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="host name or address that browsers use; required if --host means every address of "
        "this machine, such as 0.0.0.0 (repeatable)",
    )
    options = parser.parse_args(argv)
    if not 0 <= options.port < 65536:
        raise UserError(f"--port: expected 0 to 65535; got {options.port}.")
    from rotvq.serving.app import make
    from rotvq.serving.listening import listen, resolve, server
    from rotvq.serving.session import Session

    address = resolve(options.host, options.name)
    with listen(address, options.port) as bound:
        app = make(Session(load_model(options.model)), [*address.names])
        page = f"http://{address.names[0]}:{bound.getsockname()[1]}"
        others = "" if address.local else " Anyone who can reach this machine can use it."
        Terminal().say(f"Serving {options.model} on {page}.{others} Press Ctrl-C to stop.")
        try:
            server(app).run(sockets=[bound])
        except KeyboardInterrupt as stop:
            if app.state.worker.busy:
                _leave(128 + getattr(stop, "number", signal.SIGINT))
            raise
    return 0


def _leave(status: int) -> NoReturn:
    """End the process while a thread computes: torch aborts it if the interpreter shuts down."""
    print("rotvq: Stopped.", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
