"""rotvq serve: a local web page to explore and edit the tokens of images."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rotvq import bundled, run_folder
from rotvq.cli.coding import MODELS, load_model
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.paths import expanded

if TYPE_CHECKING:
    from rotvq.serving.session import Session


def run(argv: Sequence[str]) -> int:
    """Serve the page until Ctrl-C. Returns the exit status."""
    parser = Parser(
        prog="rotvq serve",
        description="Serve a web page on this machine: paint on a picture with tokens and watch it "
        "change, compare models, draw new pictures from a prior.",
        epilog="examples: rotvq serve runs/mine; rotvq serve runs/a runs/b; "
        "rotvq serve --prior runs/prior",
    )
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"{MODELS}; several are shown side by side (default: {bundled.DEFAULT}, or the model "
        "saved with the prior)",
    )
    parser.add_argument(
        "--prior",
        type=expanded,
        metavar="RUN",
        help="folder written by rotvq prior, to draw new pictures and complete painted ones",
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

    address = resolve(options.host, options.name)
    with listen(address, options.port) as bound:
        sessions = _sessions(options.models, options.prior)
        app = make(sessions, [*address.names])
        page = f"http://{address.names[0]}:{bound.getsockname()[1]}"
        served = ", ".join(session.name for session in sessions)
        others = "" if address.local else " Anyone who can reach this machine can use it."
        Terminal().say(f"Serving {served} on {page}.{others} Press Ctrl-C to stop.")
        try:
            server(app).run(sockets=[bound])
        except KeyboardInterrupt as stop:
            if any(worker.busy for worker in app.state.workers):
                _leave(128 + getattr(stop, "number", signal.SIGINT))
            raise
    return 0


def _sessions(models: list[str], run: Path | None) -> list[Session]:
    """The models, and the prior with the model that its tokens belong to."""
    from rotvq.serving.session import Session

    if run is None:
        models = models or [bundled.DEFAULT]
        return [Session(load_model(model), name) for model, name in _named(models)]
    from rotvq.generation.prior import Prior
    from rotvq.serving.drawing import Drawing
    from rotvq.tokens.model_codec import codec
    from rotvq.training.environment import default_device

    prior = Prior.from_pretrained(run).to(default_device())
    own = prior.vocabulary.codec
    saved = run / run_folder.TOKENIZER
    if not models and run_folder.has_tokenizer(run):
        models = [str(saved)]
    sessions = []
    for path, name in _named(models or [bundled.DEFAULT]):
        model = load_model(path)
        drawing = Drawing(prior) if codec(model) == own else None
        sessions.append(Session(model, name, drawing))
    if not any(session.drawing for session in sessions):
        also = f"Serve {saved} too." if run_folder.has_tokenizer(run) else "Name that model too."
        raise UserError(
            f"--prior: expected a prior over the tokens of a served model; got one over those of "
            f"model {own.model}. {also}"
        )
    return sessions


def _named(models: list[str]) -> list[tuple[str, str]]:
    """Each model with a name for the page: the end of its path, if no other has the same."""
    paths = [Path(model) for model in models]
    short = [str(Path(*p.parts[-2:])) if p.name == run_folder.TOKENIZER else p.name for p in paths]
    return [(m, s if s and short.count(s) == 1 else m) for m, s in zip(models, short, strict=True)]


def _leave(status: int) -> NoReturn:
    """End the process while a thread computes: torch aborts it if the interpreter shuts down."""
    print("rotvq: Stopped.", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
