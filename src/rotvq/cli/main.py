"""`rotvq VERB …`: finds the verb, and turns what goes wrong into one line and an exit status."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module

from rotvq import __version__, telemetry
from rotvq.cli import streams
from rotvq.cli.signals import Terminated, orderly_end
from rotvq.errors import UserError
from rotvq.text import printable

VERBS = {
    "demo": "train rotation beside straight-through on embedded photographs (under 3 minutes)",
    "train": "train a tokenizer",
    "evaluate": "measure a trained run over a whole split",
    "encode": "turn pictures into a file of tokens",
    "decode": "turn a file of tokens into pictures",
    "reconstruct": "see pictures after their tokens, with the error",
    "export": "write a model as ONNX, torch.export or for the hub",
    "serve": "open a page to play with a model's tokens",
    "reproduce": "run the paper's tables and figures and report them beside the paper's",
    "ablate": "measure what each option adds to the paper's recipe",
    "classifier": "train the classifier that reconstructions are measured with",
    "report": "write HTML and Markdown about one run or several",
    "completion": "print a script that completes words in a shell",
    "doctor": "tell versions, devices, precision and where data was found",
}
DEBUG = "ROTVQ_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 is success, 2 bad input, 128 + n a stop by signal n, 1 a fault of our own.
    """
    telemetry.switch_off()
    # Of images that are too large or slightly damaged: what is passed over is counted and listed.
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
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        known = ", ".join(VERBS)
        complain(f"rotvq: expected a verb, one of {known}; got {verb!r}. See rotvq --help.")
        return 2
    status: int = import_module(f"rotvq.cli.{verb}").run(rest)
    return status


def complain(line: str) -> None:
    """Print to standard error, with what would steer a terminal as escapes."""
    print(printable(line), file=sys.stderr)


def answering(run: Callable[[], int], say: Callable[[str], object] = complain) -> int:
    """Call a verb; what goes wrong becomes a line and an exit status."""
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
        message, status = f"expected a readable and writable file system; {error}.", 2
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        message, status = _unexpected(error)
    say(f"rotvq: {' '.join(message.split())}")
    return status


def _unexpected(error: Exception) -> tuple[str, int]:
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return (
            "expected the batch to fit the GPU's memory; it does not. Pass a smaller "
            "--training.micro_batch_size to train, or --batch-size to other verbs.",
            2,
        )
    return f"a fault in rotvq ({kind}: {error}). {DEBUG}=1 shows the traceback.", 1


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        f"usage: rotvq VERB [options]\n\nRotVQ {__version__}: discrete image tokenizers whose "
        f"gradients turn with the codebook.\n\n{verbs}\n\nrotvq VERB --help tells a verb's options."
    )
