"""The paper's claims, checked against our measurements. Pure: results to sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from rotvq.run_record import lookup
from rotvq.studies.claim import (
    Claim,
    compare,
    falls,
    mean,
    mean_tested,
    mean_trained,
    open_claim,
    seeds,
    verdict,
)
from rotvq.studies.milestones import RECONSTRUCTIONS, milestone
from rotvq.studies.paper.studies import BETAS, SIZES, TABLE2
from rotvq.studies.paper.tables import (
    ACCURACY,
    COMMITMENT,
    FRECHET,
    MSE,
    PERPLEXITY,
    SSIM,
    USAGE,
    best_epoch,
)
from rotvq.studies.results import Result, Results
from rotvq.studies.table import MISSING, Metric, decimals, number, percent, ratio

_whole, _four, _five = decimals(0), decimals(4), decimals(5)

_COMPARED: Sequence[tuple[str, Sequence[Metric], Sequence[Metric]]] = (
    ("Rotation uses more codes than straight-through", (PERPLEXITY, USAGE), (COMMITMENT,)),
    ("Rotation reconstructs with a lower error than straight-through", (MSE,), ()),
    (
        "Rotation's reconstructions look more realistic than straight-through's",
        (SSIM, ACCURACY, FRECHET),
        (),
    ),
)
"""Claims about two estimators, the metrics that decide them, and others shown with them."""


def claims(study: str, results: Results) -> tuple[Claim, ...]:
    """The claims that a study with a finished run addresses."""
    first = results.of(study)[0]
    match study:
        case "training":
            return (training(first),)
        case "table2":
            return table2(results)
        case "table3":
            return table3(results)
        case "figures":
            return figures(first)
        case "final":
            return final(first)
    return estimators(results)


def training(result: Result) -> Claim:
    """On the base model."""
    statement = "Training lowers the total and reconstruction losses and raises perplexity."
    epochs = len(result.record.epochs)
    if epochs < 2:
        return open_claim(statement, "at least two epochs")
    signs = {"loss": 1, "reconstruction_loss": 1, "batch_perplexity": -1}
    names = ("total loss", "reconstruction loss", "perplexity (mean over batches)")
    ends = {key: (result.train(key, 0), result.train(key)) for key in signs}
    changes = ", ".join(
        f"{name} {_significant(start)} → {_significant(end)}"
        for name, (start, end) in zip(names, ends.values(), strict=True)
    )
    return Claim(
        statement,
        verdict([sign * ends[key][1] < sign * ends[key][0] for key, sign in signs.items()]),
        f"From the first to the last of {epochs} epochs on the training split: {changes}. In the "
        "paper: total loss 0.1000 → 0.0451, reconstruction loss 0.0433 → 0.0077, perplexity "
        "18 → 318 over 100 epochs.",
    )


def table2(results: Results) -> tuple[Claim, ...]:
    """On the codebook size."""
    highest = "K = 512 has the highest perplexity (431, against 318 for K = 256, 1024 and 2048)."
    same = "K = 256, 1024 and 2048 reach the same reconstruction loss (0.0077)."
    found = {k: runs for k in SIZES if (runs := results.of("table2", f"k_{k}"))}
    if len(found) < len(SIZES):
        checked = [open_claim(statement, "all four sizes") for statement in (highest, same)]
    else:
        checked = [_highest(highest, found), _same(same, found)]
    return (*checked, *([_level(found[1024])] if 1024 in found else []))


def _highest(statement: str, found: Mapping[int, Sequence[Result]]) -> Claim:
    perplexities = {k: mean_trained(runs, "batch_perplexity") for k, runs in found.items()}
    measured = ", ".join(f"{_whole(p)} at K = {k}" for k, p in perplexities.items())
    usage = "; ".join(
        f"K = {k}: {_whole(mean_tested(runs, 'codes_used'))} codes used, perplexity "
        f"{_whole(mean_tested(runs, 'perplexity'))}, MSE {_four(mean_tested(runs, 'mse'))}"
        for k, runs in found.items()
    )
    return Claim(
        statement,
        verdict([all(perplexities[512] > p for k, p in perplexities.items() if k != 512)]),
        f"Our perplexity, as the mean over training batches: {measured}. On the test split: "
        f"{usage} (means over {seeds(*found.values())}). A perplexity of 318 is impossible with "
        "256 codes, so the paper's row for K = 256 must belong to another size.",
    )


def _same(statement: str, found: Mapping[int, Sequence[Result]]) -> Claim:
    losses = {k: mean_trained(runs, "reconstruction_loss") for k, runs in found.items()}
    three = [losses[k] for k in (256, 1024, 2048)]
    apart = 1 - ratio(min(three), max(three))
    measured = ", ".join(f"{_four(loss)} at K = {k}" for k, loss in losses.items())
    return Claim(
        statement,
        verdict([apart < 0.02]),
        f"Training reconstruction loss: {measured} (means over {seeds(*found.values())}). The "
        f"lowest of the three is {percent(apart)} below the highest.",
    )


def _level(runs: Sequence[Result]) -> Claim:
    config = runs[0].run.config
    measured = mean_trained(runs, "reconstruction_loss")
    images = number(lookup(runs[0].record.run, "data.train.images"))
    return Claim(
        "A reconstruction loss of 0.0077 is reached at 640 bits per image.",
        verdict([measured <= TABLE2[1024]["reconstruction_loss"]]),
        f"We reach {_four(measured)} with {config.training.epochs} epochs of {_whole(images)} "
        f"images at width {config.model.width}, where the decoder receives exact codes. The "
        "paper's decoder also receives ‖z_e‖ of every token, so its loss takes more than 640 bits "
        "(the study of the estimators shows the size of that leak). The rate–distortion bound of "
        "a Gaussian with CIFAR-10's covariance is 0.0100.",
    )


def table3(results: Results) -> tuple[Claim, ...]:
    """On the commitment weight."""
    statements = (
        "A lower β raises perplexity.",
        "A higher β lowers the codebook loss.",
        "A lower β improves reconstruction.",
    )
    found = {beta: runs for beta in BETAS if (runs := results.of("table3", f"beta_{beta}"))}
    if len(found) < 2:
        return tuple(open_claim(s, "at least two values of β") for s in statements)

    def series(
        value: Callable[[Sequence[Result]], float], text: Callable[[float], str]
    ) -> tuple[list[float], str]:
        values = [value(runs) for runs in found.values()]
        pairs = zip(found, values, strict=True)
        return values, ", ".join(f"{text(v)} at {beta:g}" for beta, v in pairs)

    train, train_text = series(lambda runs: mean_trained(runs, "perplexity"), _whole)
    test, test_text = series(lambda runs: mean_tested(runs, "perplexity"), _whole)
    codebook, codebook_text = series(lambda runs: mean_trained(runs, "codebook_loss"), _four)
    mse, mse_text = series(lambda runs: mean_tested(runs, "mse"), _four)
    best = list(found)[mse.index(min(mse))]
    return (
        Claim(
            statements[0],
            falls([train, test]),
            f"Perplexity on the training split: {train_text}; on the test split: {test_text}. In "
            "the paper: from 629 at 0.1 to 117 at 2.",
        ),
        Claim(
            statements[1],
            falls([codebook]),
            f"Training codebook loss: {codebook_text}. In the paper: from 0.0636 at 0.1 to 0.0053 "
            "at 2. The loss is in the units of each run's own latents, which shrink as β grows; a "
            "lower value does not mean better images.",
        ),
        Claim(
            statements[2],
            falls([[-v for v in mse]]),
            f"Test MSE: {mse_text}; lowest at β = {best:g} (means over {seeds(*found.values())}). "
            "In the paper: 0.0094 at 0.1, 0.0114 at 2.",
        ),
    )


def figures(result: Result) -> tuple[Claim, ...]:
    """On reconstructions, codebook and gradients over training."""
    sharper = "Reconstructions become sharper during training (Figures 1 to 5)."
    into_use = "The codebook organizes itself and more codes come into use (Figures 6 to 8)."
    epochs = result.run.config.training.epochs
    at = {milestone(e, epochs) for e in RECONSTRUCTIONS}
    recorded = [e for e in result.record.epochs if e.number in at and e.test]
    errors = [(e.number, e.test.get("reconstruction_loss", math.nan)) for e in recorded]
    # In a short run, two of the paper's epochs may be the same.
    maps = {m["epoch"]: m["uses"] for m in result.measured["tsne"]["epochs"]}
    dead = [(epoch, sum(use == 0 for use in uses), len(uses)) for epoch, uses in maps.items()]
    shown = ", ".join(f"{_four(error)} after {epoch}" for epoch, error in errors)
    counts = ", ".join(f"{n} of {k} after epoch {epoch}" for epoch, n, k in dead)
    return (
        open_claim(sharper, "at least two tested epochs")
        if len(errors) < 2
        else Claim(
            sharper,
            falls([[error for _, error in errors]]),
            f"Test MSE at the epochs shown: {shown} of {epochs}.",
        ),
        open_claim(into_use, "at least two epochs")
        if len(dead) < 2
        else Claim(
            into_use,
            falls([[n for _, n, _ in dead]]),
            f"Codes that no token of 1,024 test images uses: {counts}. t-SNE shows neighborhoods, "
            "not distances; the position of a dead code means nothing.",
        ),
    )


def final(result: Result) -> tuple[Claim, ...]:
    """On the long run."""
    best = result.measured["best"]["metrics"]
    epoch, epochs = best_epoch(result), result.run.config.training.epochs
    usage = result.metric("usage")
    return (
        Claim(
            "Rotation and EMA updates prevent codebook collapse.",
            verdict([usage > 0.9, usage > 0.5]),
            f"After {epochs} epochs, {_whole(result.metric('codes_used'))} of "
            f"{result.run.config.quantizer.codebook_size} codes are in use on the test split "
            f"({percent(usage)}), with perplexity {_whole(result.metric('perplexity'))}. The "
            "paper's own release ends with 40.8 % in use.",
        ),
        Claim(
            "The last model is the best one.",
            verdict([epoch == epochs]),
            f"The total loss on the test split is lowest at epoch {epoch} of {epochs}, with MSE "
            f"{_five(number(best.get('mse')))}; at the end, the MSE is "
            f"{_five(result.metric('mse'))}.",
        ),
    )


def estimators(results: Results) -> tuple[Claim, ...]:
    """On the effects of the rotation."""
    compared = []
    for suffix, setting in (("", "without restarts"), ("_restart", "with restarts")):
        variants = ["rotation" + suffix, "straight_through" + suffix]
        pair = results.same_seeds("estimators", *variants)
        for statement, metrics, others in _COMPARED:
            full = f"{statement}, {setting}."
            compared.append(
                compare(full, ("rotation", "straight-through"), pair, metrics, others)
                if pair
                else open_claim(full, "both estimators")
            )
    return (*compared, _parts(results), _leak(results))


def _parts(results: Results) -> Claim:
    statement = "Rotation and rescaling each raise perplexity."
    names = ("straight_through", "rescaling", "rotation_without_rescaling", "rotation")
    found = results.same_seeds("estimators", *names)
    if found is None:
        return open_claim(statement, "all four estimators")
    straight, rescaling, turning, both = (mean(runs, PERPLEXITY.value) for runs in found)
    values = ", ".join(
        f"{runs[0].run.variant.label} {PERPLEXITY.text(mean(runs, PERPLEXITY.value))} "
        f"(MSE {MSE.text(mean(runs, MSE.value))})"
        for runs in found
    )
    return Claim(
        statement,
        verdict([rescaling > straight, turning > straight, both > max(rescaling, turning)]),
        f"Perplexity without restarts: {values} (means over {seeds(*found)}).",
    )


def _leak(results: Results) -> Claim:
    statement = "The released transform is discrete: its indices decode to its reconstructions."
    runs = results.of("estimators", "reflection")
    if not runs:
        return open_claim(statement, "the reflection")
    forward, decoded = mean(runs, lambda r: r.metric("forward_mse")), mean(runs, MSE.value)
    return Claim(
        statement,
        verdict([abs(decoded - forward) < 1e-5 * forward]),
        f"MSE {MSE.text(forward)} in the forward pass, {MSE.text(decoded)} decoded from the "
        f"indices: {decimals(2)(ratio(decoded, forward))} times as much (means over "
        f"{seeds(runs)}). The difference is carried by one real number per token that bypasses "
        "the codebook.",
    )


def _significant(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4g}"
