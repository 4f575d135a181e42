"""rotvq evaluate: compute every metric of a trained model over a whole split."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotvq import bundled, run_folder
from rotvq.cli.coding import load_model
from rotvq.cli.images import load_images
from rotvq.cli.options import (
    Parser,
    add_batch_size,
    add_effort,
    add_out,
    add_size,
    check_positive,
    check_tune,
    tuned_error,
)
from rotvq.cli.progress import summary
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.guarded import read_json
from rotvq.paths import expanded
from rotvq.run_record import lookup
from rotvq.training.config import Config, DataConfig
from rotvq.training.folder import check_same_data, read_config

if TYPE_CHECKING:
    from rotvq.data_processing import ImageSplit
    from rotvq.evaluation.classifier_metrics import ClassifierMetrics
    from rotvq.model import VQVAE
    from rotvq.model.level_search import LevelSearch


def run(argv: Sequence[str]) -> int:
    """Evaluate a model and write the record. Returns the exit status."""
    options = _parse(argv)
    folder = bundled.find(options.model) or expanded(options.model)
    saved = not run_folder.is_run(folder)
    config = _config(options, folder, saved)
    terminal = Terminal()
    model = load_model(options.model).cpu() if saved else None
    if model:
        config = config.replace(model={"channels": model.channels})
    data = load_images(config)
    # Imported late, because torch is slow to import: bad input is reported first.
    from rotvq.evaluation import classifier_metrics, perceptual
    from rotvq.evaluation.evaluate import evaluate
    from rotvq.files import write_json
    from rotvq.model.level_search import LevelSearch
    from rotvq.training.build import load_model as load_run
    from rotvq.training.images import limited, on_device, sizes

    model = model or load_run(folder)
    images = {
        "train": on_device(data.train, config.data.train_images, "cpu"),
        "test": on_device(data.test, config.data.test_images, "cpu"),
    }
    if not options.data:
        check_same_data(folder, sizes(images))
    wanted = images[options.split]
    asked = {name: getattr(options, name) for name in perceptual.NETWORKS}
    networks = {
        name: perceptual.network(name, path) for name, path in asked.items() if path is not None
    }
    meters: list[Any] = [perceptual.PerceptualMetrics(networks, len(wanted))]
    classifiers = {}
    if options.classifier:
        training = options.split == "train"
        split = data.train if training else data.test
        limit = config.data.train_images if training else config.data.test_images
        meters.append(_classifier_metrics(options.classifier, limited(split, limit), data.classes))
        classifiers = _classifiers(options.classifier, folder)
        if split.labels is not None and not meters[-1].has_labels:
            terminal.say("  The classifier has other classes than the images: no accuracy.")
    out = options.out or folder / run_folder.evaluation(options.split, options.effort)
    out.parent.mkdir(parents=True, exist_ok=True)
    search = LevelSearch(model, options.effort)
    with terminal.counting(len(wanted), "evaluating") as advance:
        record = evaluate(
            model,
            wanted,
            beta=config.training.beta,
            split=options.split,
            batch_size=options.batch_size,
            search=search,
            error=tuned_error(options),
            progress=advance,
            on_batch=lambda *pair: [meter.add(*pair) for meter in meters],
        )
    protocol = perceptual.PROTOCOL | classifier_metrics.PROTOCOL
    found = {name: value for meter in meters for name, value in meter.compute().items()}
    record["metrics"] |= found
    record["protocol"] |= {name: protocol[name] for name in found}
    record |= {"data": data.name, **classifiers}
    for line in summary(record):
        terminal.say(line)
    for name, value in found.items():
        terminal.say(f"  {name} {value:.4f}: {protocol[name]}")
    write_json(out, record)
    if options.effort and options.split == "test" and not options.out:
        _draw(folder, model, search)
    terminal.say(f"Saved to {out}.")
    return 0


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Parser(
        prog="rotvq evaluate",
        description="Compute every metric of a trained model over a whole split.",
        epilog="examples: rotvq evaluate runs/mine --effort 4; "
        "rotvq evaluate rotvq-f4 --data FOLDER --size 64 -o evaluation.json",
    )
    parser.add_argument(
        "model",
        help="folder written by rotvq train; with --data also a bundled model "
        f"({bundled.listed()}), the folder of a saved model, or owner/name on the Hub",
    )
    parser.add_argument("--split", choices=["test", "train"], default="test", help="default: test")
    parser.add_argument("--data", help="evaluate on this data source; requires --out")
    add_size(parser, "with --data: ", "the run's, or the size they have")
    add_batch_size(parser)
    add_effort(parser)
    for metric, what in (("rfid", "Inception"), ("lpips", "VGG16")):
        parser.add_argument(
            f"--{metric}",
            nargs="?",
            const="",
            metavar="FILE",
            help=f"also compute {metric} with the {what} network in FILE (default: download it)",
        )
    parser.add_argument(
        "--classifier",
        type=expanded,
        metavar="FOLDER",
        help="also compute accuracy, agreement and a Fréchet distance with the classifier that "
        "rotvq classifier wrote to FOLDER",
    )
    add_out(parser, "JSON file to write (default: the record of the run)")
    options = parser.parse_args(argv)
    check_positive(options, "batch_size")
    check_tune(options)
    if options.tune == "ssim" and not options.out:
        raise UserError(
            "--tune: expected --out with ssim, because the run's records are of searches for the "
            "squared error; got none. Pass --out FILE."
        )
    if options.data and not options.out:
        raise UserError(
            "--data: expected --out with it, because the run's record is only for its own data; "
            "got none. Pass --out FILE."
        )
    if options.size and not options.data:
        raise UserError("--size: expected --data SOURCE with it; got none.")
    if options.out:
        _check_record(options.out)
    return options


def _config(options: Namespace, folder: Path, saved: bool) -> Config:
    """The configuration of the run, or the default one of a saved model, with the images asked for.

    Raises:
        UserError: there is no run, or a saved model without --data.
    """
    if not options.data:
        if saved and (folder / run_folder.MODEL).exists():
            raise UserError(
                f"--data: expected images to evaluate {options.model} on, which is no run with "
                "images of its own; got none. Pass --data SOURCE --out FILE."
            )
        return read_config(folder)
    config = Config() if saved else read_config(folder)
    size = options.size or config.data.size
    return replace(config, data=DataConfig(options.data, size, bits=config.data.bits))


def _classifier_metrics(
    folder: Path, split: ImageSplit, classes: tuple[str, ...]
) -> ClassifierMetrics:
    """The metrics of a classifier; accuracies only where the labels are those of its classes."""
    import torch

    from rotvq.evaluation.classifier import has_classes, load_classifier
    from rotvq.evaluation.classifier_metrics import ClassifierMetrics

    classifier, labels = load_classifier(folder), None
    if split.labels is not None:
        number = len(classes) or int(split.labels.max()) + 1
        labels = torch.from_numpy(split.labels) if has_classes(folder, number, classes) else None
    return ClassifierMetrics(classifier, labels)


def _classifiers(folder: Path, run: Path) -> dict[str, Any]:
    """Describe the evaluating classifier and the run's perceptual network, for the record.

    Raises:
        UserError: both are the same network.
    """
    from rotvq.evaluation.classifier import describe_classifier

    described = describe_classifier(folder)
    before = run_folder.read_record(run, run_folder.RUN) if run_folder.is_run(run) else {}
    if lookup(before, "perceptual.weights") == described["weights"]:
        raise UserError(
            f"--classifier: expected another classifier than the one of the run's perceptual loss; "
            f"got the same weights in {folder}. Train one: rotvq classifier --out OTHER"
        )
    trained = {"perceptual": before["perceptual"]} if before.get("perceptual") else {}
    return {"classifier": described, **trained}


def _draw(folder: Path, model: VQVAE, search: LevelSearch) -> None:
    """Draw the images of the run's last picture, decoded from the tokens of a search."""
    import numpy as np
    import torch

    from rotvq.report import tiles
    from rotvq.run_record import load_run
    from rotvq.training.pictures import save_reconstructions

    run = load_run(folder)
    if run.pictures:
        pixels = np.concatenate(tiles.last_pairs(run).originals)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)[:, : model.channels]
        save_reconstructions(folder / run_folder.searched(search.effort), model, images, search)


def _check_record(path: Path) -> None:
    """Check that a path is new or holds an evaluation record.

    Raises:
        UserError: it holds something else, or it is a record of a run, which `--out` leaves alone.
    """
    if run_folder.is_run(path.parent) and path.name in run_folder.OUTPUTS:
        raise UserError(
            f"--out: expected another file than the records of a run; got {path}. Choose another "
            "name, or leave out --out to measure the run with its own data."
        )
    try:
        ours = not path.exists() or "metrics" in read_json(path)
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise UserError(
            f"--out: expected a new file or an evaluation record to replace; got {path}, which is "
            "neither. Choose another name."
        )
