"""`rotvq COMMAND …`: runs a command; errors become one line and an exit status."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module

from rotvq import __version__, telemetry
from rotvq.cli import extras, streams
from rotvq.cli.signals import Terminated, orderly_end
from rotvq.errors import UserError
from rotvq.text import printable

COMMANDS = {
    "demo": "compare the rotation trick with straight-through on bundled photos (under 3 minutes)",
    "train": "train a tokenizer",
    "evaluate": "evaluate a trained model on a whole split",
    "encode": "encode images to a token file",
    "decode": "decode a token file to images",
    "reconstruct": "encode and decode images, and report the error",
    "codebook": "draw every code of a model",
    "prior": "train a prior over the tokens of a token file",
    "sample": "draw new images from a prior, or complete an image",
    "export": "export a model to ONNX, torch.export or the Hugging Face Hub format",
    "serve": "explore a model's tokens in the browser",
    "reproduce": "reproduce the paper's tables and figures",
    "ablate": "measure what each option adds to the paper's recipe",
    "classifier": "train a classifier for metrics and the perceptual loss",
    "report": "write an HTML and Markdown report on one or more runs",
    "sweep": "train a run for each combination of some values, and compare them",
    "completion": "print a shell completion script",
    "doctor": "show versions, devices, precision and available data",
}
DEBUG = "ROTVQ_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 means success, 2 bad input, 128 + n a stop by signal n, 1 a bug in rotvq.
    """
    telemetry.switch_off()
    # Pillow warns about very large or slightly damaged images; commands count and list them.
    warnings.filterwarnings("ignore", module="PIL")
    arguments = list(sys.argv[1:] if argv is None else argv)
    return answering(lambda: _answer(arguments))


def _answer(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"rotvq {__version__}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        complain(f"rotvq: expected a command ({known}); got {command!r}. See rotvq --help.")
        return 2
    status: int = import_module(f"rotvq.cli.{command}").run(rest)
    return status


def complain(line: str) -> None:
    """Print a line to standard error; control characters are escaped."""
    print(printable(line), file=sys.stderr)


def answering(run: Callable[[], int], say: Callable[[str], object] = complain) -> int:
    """Run a command; return its exit status, and report errors with `say`, in one line."""
    streams.prepare()
    try:
        with orderly_end():
            status = run()
            sys.stdout.flush()
        return status
    except UserError as error:
        message, status = str(error), 2
    except Terminated as end:
        message, status = "Stopped.", 128 + end.number
    except KeyboardInterrupt:
        message, status = "Stopped.", 128 + signal.SIGINT
    except BrokenPipeError:
        streams.discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        message, status = f"expected a readable and writable file system; got {error}.", 2
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        message, status = _unexpected(error)
    say(f"rotvq: {' '.join(message.split())}")
    return status


def _unexpected(error: Exception) -> tuple[str, int]:
    if isinstance(error, ModuleNotFoundError) and (remedy := extras.remedy(error)):
        return remedy, 2
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return (
            "expected the batch to fit in GPU memory; it does not. Pass a smaller "
            "--training.micro_batch_size to train, or a smaller --batch-size to other commands.",
            2,
        )
    return f"internal error ({kind}: {error}). Set {DEBUG}=1 to see the traceback.", 1


def _usage() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {command:<{width}}  {text}" for command, text in COMMANDS.items())
    return (
        f"usage: rotvq COMMAND [options]\n\nRotVQ {__version__}: VQ-VAE image tokenizers trained "
        f"with the rotation trick.\n\n{commands}\n\n"
        "Run rotvq COMMAND --help to list the options of a command."
    )
