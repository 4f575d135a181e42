"""The sentence at the top of a report: what was asked, and the result. Pure: records to text."""

import math
from collections.abc import Sequence

from rotvq.report import tables
from rotvq.report.metrics import error, ranked
from rotvq.run_record import RunRecord, lookup

PLACES = ("best", "middle", "worst")


def one(run: RunRecord) -> str:
    """The result of a run, and what was trained."""
    what = "A prior over tokens" if run.is_prior else "A vector-quantized autoencoder"
    return (
        f"{_result(run)} {what} ({tables.describe(run)}) trained on {tables.data_name(run)}."
    ).strip()


def comparison(runs: Sequence[RunRecord]) -> str:
    """Which run has the smallest error, by how much, and how the runs differ."""
    best, *others = ranked(runs)
    rest = tables.listed([f"{_score(run)} of {run.label}" for run in others])
    least = "smaller" if len(runs) == 2 else "smallest"
    what = f"takes the {least} number of bits" if best.is_prior else f"has the {least} error"
    answer = f"{best.label} {what}: {_score(best)}, against {rest}."
    if not tables.comparable(runs) or not math.isfinite(error(best)):
        said = tables.listed([f"{run.label} ({tables.describe(run)})" for run in runs])
        answer = f"A comparison of {said}."
    return f"{answer} {_differ(runs, [row.name for row in tables.config_rows(runs)[0]])}"


def sweep(runs: Sequence[RunRecord], names: Sequence[str]) -> str:
    """The best run and the worst one; runs come best first."""
    spread = f"{_score(runs[0])} ({runs[0].label}) to {_score(runs[-1])} ({runs[-1].label})"
    answer = f"From best to worst, the runs reach {spread}."
    if not tables.comparable(runs) or not math.isfinite(error(runs[0])):
        answer = "The runs have no common measure yet."
    return f"{answer} {_differ(runs, names)}"


def _differ(runs: Sequence[RunRecord], names: Sequence[str]) -> str:
    data = tables.listed(list(dict.fromkeys(tables.data_name(run) for run in runs)))
    if not names:
        return f"All were trained on {data} with the same configuration."
    shown = [*names[:5], *([f"{len(names) - 5} more"] if len(names) > 5 else [])]
    return f"Trained on {data}; they differ in {tables.listed(shown)}."


def _result(run: RunRecord) -> str:
    """A sentence with the metrics that matter; empty where nothing was tested."""
    if not math.isfinite(error(run)):
        return ""
    if run.is_prior:
        return f"Test images take {_score(run)}."
    if not run.evaluation:
        at = max(epoch.number for epoch in run.epochs if epoch.test)
        return f"After epoch {at}, reconstructions of the {run.watched} images reach {_score(run)}."
    found = run.evaluation.metrics
    parts = [_score(run)]
    if math.isfinite(found.get("ssim", math.nan)):
        parts.append(f"an SSIM of {found['ssim']:.3f}")
    sentence = (
        f"Reconstructions of {run.evaluation.images:,} {run.evaluation.split} images reach "
        f"{tables.listed(parts)}"
    )
    bits, each = (lookup(run.run, f"model.bits_per_{unit}") for unit in ("pixel", "image"))
    if isinstance(bits, int | float) and isinstance(each, int | float):
        sentence += f" at {bits:.4g} bits per pixel ({each:,.6g} bits an image)"
    if run.counts:
        used = sum(count > 0 for count in run.counts)
        sentence += f", with {used:,} of {len(run.counts):,} codes in use"
    return f"{sentence}."


def _score(run: RunRecord) -> str:
    """The error that runs are ranked by, as decibels; bits per token of a prior."""
    value = error(run)
    if run.is_prior:
        return f"{value:.3f} bits per token"
    # Pixels lie in [-1, 1], whose peak is 2.
    return (
        f"{10 * math.log10(4 / value):.2f} dB" if 0 < value < math.inf else f"an error of {value:g}"
    )
