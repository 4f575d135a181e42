"""Each study's figures, with what is to be seen in words."""

from __future__ import annotations

from rotvq.report import style
from rotvq.report.page import Picture
from rotvq.report.tiles import Drawn
from rotvq.studies.milestones import RECONSTRUCTIONS, milestone
from rotvq.studies.paper import (
    estimator_figures,
    figures,
    model_figures,
    paper,
    tables,
)
from rotvq.studies.paper.results import Result, Results


def pictures(study: str, results: Results) -> tuple[Picture, ...]:
    """The figures of a study that has a finished run, in order."""
    first = results.of(study)[0]
    match study:
        case "training":
            return (_curves("training", first),)
        case "table2":
            return (_sizes(results),)
        case "table3":
            return (_weights(results),)
        case "figures":
            return (_reconstructions("figures-1-5", first), _maps(first), _gradients(first))
        case "final":
            return (_curves("final", first), _reconstructions("final-reconstructions", first))
    leaks = [_leak(results)] if tables.leak(results).rows else []
    return (_estimators(results), *leaks)


def _curves(name: str, result: Result) -> Picture:
    return _plot(
        f"{name}.png",
        figures.training_curves(result),
        "Curves over epochs: total, reconstruction and codebook loss, perplexity and usage.",
        "Metrics after each epoch: test solid, train dashed. Losses have logarithmic axes.",
    )


def _sizes(results: Results) -> Picture:
    return _plot(
        "table2.png",
        figures.codebook_sizes(results, paper.TABLE2),
        "Reconstruction loss, perplexity and usage over the size of the codebook.",
        "Table 2 as a picture. Grey: what the paper prints, from a decoder that also receives "
        "‖z_e‖ of every token.",
    )


def _weights(results: Results) -> Picture:
    return _plot(
        "table3.png",
        figures.commitment_weights(results, paper.TABLE3),
        "Reconstruction loss, codebook loss and perplexity over the weight of the commitment loss.",
        "Table 3 as a picture. Grey: what the paper prints, from a decoder that also receives "
        "‖z_e‖ of every token.",
    )


def _reconstructions(name: str, result: Result) -> Picture:
    drawn: Drawn = model_figures.reconstructions(result)
    epochs = result.run.config.training.epochs
    shown = ", ".join(
        str(at) for at in dict.fromkeys(milestone(e, epochs) for e in RECONSTRUCTIONS)
    )
    return Picture(
        f"{name}.png",
        drawn.png,
        drawn.width,
        f"Test images, and below them what the model makes of them after epochs {shown}.",
        "The same test images each time, decoded from their indices, enlarged without smoothing; "
        f"after epochs {shown} of {epochs}, the places of the paper's 0, 25, 50, 75 and 99.",
    )


def _maps(result: Result) -> Picture:
    return _plot(
        "figures-6-8.png",
        model_figures.codebook_maps(result),
        "t-SNE of the codebook at three epochs, each code coloured by its use; dead codes hollow.",
        "t-SNE of the codes with the paper's parameters (perplexity 30, learning rate 200, 1000 "
        "iterations), each fitted anew: places, distances and axes mean nothing across panels. "
        "Colour: share of the tokens of 1,024 test images; dead codes are those that none uses.",
    )


def _gradients(result: Result) -> Picture:
    return _plot(
        "gradient-flow.png",
        model_figures.gradient_flow(result),
        "Norm of the loss's gradient by each parameter of encoder and decoder over the epochs.",
        "Gradient flow: norm of the gradient of the total loss by every parameter, after each "
        "epoch, over one fixed batch of training images.",
    )


def _estimators(results: Results) -> Picture:
    return _plot(
        "estimators.png",
        estimator_figures.estimators(results),
        "Metrics of each estimator with and without restart of dead codes, every seed shown.",
        "Test split. A large mark is the mean over the seeds, a faint dot one seed, the bar their "
        "range. Filled: without restart; hollow: with.",
    )


def _leak(results: Results) -> Picture:
    return _plot(
        "leak.png",
        estimator_figures.leak(results),
        "MSE of the forward pass beside MSE of the decoded indices, reflection and rotation.",
        "What the released reflection leaks: its forward pass sees ‖z_e‖ of every token, its "
        "indices do not. For the rotation the two are one.",
    )


def _plot(name: str, png: bytes, alt: str, caption: str) -> Picture:
    return Picture(name, png, style.WIDTH * style.PAGE_DPI, alt, caption)
