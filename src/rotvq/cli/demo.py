"""rotvq demo: a photograph through the bundled model, then a training with either gradient."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from rotvq.cli import reconstruct
from rotvq.cli.options import Parser, add_out
from rotvq.cli.train import Options, execute
from rotvq.text import printable
from rotvq.training.presets import PRESETS

NEXT = """\
Next, with images of your own:
  rotvq reconstruct PICTURE                       encode and decode it with the bundled model
  rotvq encode FOLDER -o tokens.npz               images to tokens; rotvq decode turns them back
  rotvq train --from rotvq-f4 --data FOLDER --data.size 64 --out runs/mine
  rotvq serve                                     edit the tokens of an image in a browser"""


def run(argv: Sequence[str]) -> int:
    """Reconstruct a photograph, train both and write the report; returns the exit status."""
    parser = Parser(
        prog="rotvq demo",
        description="Turn a photograph into tokens and back with the bundled model; then train "
        "with the straight-through estimator and with the rotation trick, on patches of two "
        "photographs that come with scikit-learn, and write a report that compares them.",
    )
    add_out(parser, "output folder", Path("demo"))
    parser.add_argument(
        "--preset", choices=["demo", "smoke"], default="demo", help="size of the demo"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    options = parser.parse_args(argv)
    with as_file(files("sklearn.datasets.images") / "china.jpg") as photograph:
        words = [str(photograph), "--out", str(options.out / "china.png"), "--overwrite"]
        if status := reconstruct.run(words):
            return status
    base = PRESETS[options.preset]
    runs = []
    for estimator in ("straight_through", "rotation"):
        config = base.replace(quantizer={"estimator": estimator}, training={"seed": options.seed})
        out = options.out / estimator
        print(f"— {estimator} —", flush=True)
        # Resumes an interrupted demo; of a finished one, only the report is rewritten.
        status = execute(
            config,
            Options(None, out, resume=not options.overwrite, overwrite=options.overwrite),
            f"rotvq train --preset {options.preset} --quantizer.estimator {estimator} "
            f"--training.seed {options.seed}",
        )
        if status:
            return status
        runs.append(out)
    from rotvq.report import write_report

    page = write_report(runs, options.out)
    print("\n" + printable(f"Report on both runs: {page}") + f"\n\n{NEXT}")
    return 0
