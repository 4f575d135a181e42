"""rotvq serve: a local page to play with a model's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from rotvq.cli.coding import load_model
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError


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
        help="name or address by which others ask for the page; needed where --host stands for "
        "every address of this machine, as 0.0.0.0 does (may be given again)",
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
        others = "" if address.local else " Whoever can reach this machine can use it."
        Terminal().say(f"Serving {options.model} on {page}.{others} Ctrl-C ends it.")
        server(app).run(sockets=[bound])
    return 0
