"""Tables of runs. Pure: records to texts."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rotvq.run_record import RunRecord, lookup

MISSING = "—"


class Cell(NamedTuple):
    """A text, and whether it is the best of its row."""

    text: str
    best: bool = False


class Row(NamedTuple):
    """A named row with one cell per run."""

    name: str
    cells: tuple[Cell, ...]


class Fact(NamedTuple):
    """A fact about all runs (one value without a label) or about each run (a value per label)."""

    name: str
    values: tuple[tuple[str | None, str], ...]


class Metric(NamedTuple):
    """A row of metrics: its name, its value, how it is written, and which end is better."""

    name: str
    value: Callable[[RunRecord], float | None]
    text: Callable[[float], str]
    better: Callable[[Sequence[float]], float] | None = None  # min, max, or neither


def _evaluated(name: str) -> Callable[[RunRecord], float | None]:
    return lambda run: run.evaluation.metrics.get(name) if run.evaluation else None


def _sized(name: str) -> Callable[[RunRecord], float | None]:
    def value(run: RunRecord) -> float | None:
        size = lookup(run.run, f"model.{name}")
        return size if isinstance(size, int | float) else None

    return value


def _at_the_end(name: str) -> Callable[[RunRecord], float | None]:
    """A value of the codebook's state after the last epoch."""

    def value(run: RunRecord) -> float | None:
        found = run.epochs[-1].codebook.get(name)
        return found if isinstance(found, int | float) else None

    return value


def _at_quantile(place: int) -> Callable[[RunRecord], float | None]:
    """A quantile of the relative cluster sizes, by its index in the record."""

    def value(run: RunRecord) -> float | None:
        spread = run.epochs[-1].codebook.get("spread")
        found = spread[place] if isinstance(spread, list) and len(spread) > place else None
        return found if isinstance(found, int | float) else None

    return value


def _speed(run: RunRecord) -> float | None:
    speeds = [e.timing["images_per_second"] for e in run.epochs if "images_per_second" in e.timing]
    return math.fsum(speeds) / len(speeds) if speeds else None


def _minutes(run: RunRecord) -> float | None:
    seconds = [e.timing["train_seconds"] for e in run.epochs if "train_seconds" in e.timing]
    return math.fsum(seconds) / 60 if seconds else None


def _decimals(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:,.{digits}f}"


def _significant(value: float) -> str:
    return f"{value:.4g}"


FORWARD_MSE = Metric(
    "MSE of the forward pass (leaks ‖z_e‖ past the codebook)",
    _evaluated("forward_mse"),
    _significant,
)

# Codebook and commitment losses are in the units of each run's own latents, so none is best.
METRICS = (
    Metric("MSE", _evaluated("mse"), _significant, min),
    FORWARD_MSE,
    Metric("PSNR of the mean MSE (dB)", _evaluated("psnr"), _decimals(2), max),
    Metric("PSNR, mean over images (dB)", _evaluated("psnr_per_image"), _decimals(2), max),
    Metric("SSIM", _evaluated("ssim"), _decimals(4), max),
    Metric("SSIM, uniform 7x7 window", _evaluated("ssim_uniform_7x7"), _decimals(4), max),
    Metric("Perplexity", _evaluated("perplexity"), _decimals(1), max),
    Metric("Codes used", _evaluated("codes_used"), _decimals(0), max),
    Metric("Codebook size K", lambda run: run.codebook_size, _decimals(0)),
    Metric("Usage, codes used / K", _evaluated("usage"), lambda value: f"{100 * value:.1f} %", max),
    Metric("Dead codes (used less than 3 % of the mean)", _at_the_end("dead"), _decimals(0), min),
    Metric(
        "Training steps that the longest-idle code has been unused",
        _at_the_end("oldest"),
        _decimals(0),
    ),
    Metric("Cluster size, lower quartile / mean", _at_quantile(2), _significant),
    Metric("Cluster size, upper quartile / mean", _at_quantile(4), _significant),
    Metric("Codebook loss", _evaluated("codebook_loss"), _significant),
    Metric("Commitment loss", _evaluated("commitment_loss"), _significant),
    Metric("Quantization error / variance of z_e", _evaluated("relative_error"), _significant),
    Metric("Bits per image", _sized("bits_per_image"), lambda value: f"{value:,.6g}", min),
    Metric("Bits per pixel", _sized("bits_per_pixel"), _significant, min),
    Metric("Bits per token under the prior", _evaluated("bits_per_token"), _decimals(3), min),
    Metric(
        "Bits per token without a given class",
        _evaluated("bits_per_token_without_class"),
        _decimals(3),
        min,
    ),
    Metric("Entropy of code use, bits per token", _evaluated("entropy_per_token"), _decimals(3)),
    Metric(
        "Bits per image under the prior",
        lambda run: _evaluated("bits_per_image")(run) if run.is_prior else None,
        _decimals(1),
        min,
    ),
    Metric(
        "Bits per image as a fixed-length code", _evaluated("fixed_bits_per_image"), _decimals(1)
    ),
    Metric("Parameters", _sized("parameters"), _decimals(0), min),
    Metric("Training images/s (mean over epochs)", _speed, _decimals(0), max),
    Metric("Training minutes", _minutes, _decimals(1), min),
)


def metric_rows(runs: Sequence[RunRecord]) -> tuple[Row, ...]:
    """The final metrics, one cell per run; rows without any value are left out."""
    leaks = any(_leaks(run) for run in runs)
    rows = [_row(metric, runs) for metric in METRICS if leaks or metric is not FORWARD_MSE]
    return tuple(row for row in rows if any(cell.text != MISSING for cell in row.cells))


def _leaks(run: RunRecord) -> bool:
    """Whether the forward pass decodes something other than codes (`reflection`)."""
    mse, forward = _evaluated("mse")(run), _evaluated("forward_mse")(run)
    if mse is None or forward is None:
        return False
    return abs(mse - forward) > 1e-5 * abs(mse)


def _row(metric: Metric, runs: Sequence[RunRecord]) -> Row:
    values = [metric.value(run) for run in runs]
    texts = [MISSING if v is None else metric.text(v) for v in values]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    best = MISSING  # equal texts are equally good; a row without differences has no best
    if metric.better and finite and len(set(texts)) > 1 and comparable(runs):
        best = metric.text(metric.better(finite))
    return Row(metric.name, tuple(Cell(text, text == best != MISSING) for text in texts))


def comparable(runs: Sequence[RunRecord]) -> bool:
    """Whether all runs were tested on the same images."""
    measured = {(r.evaluation.split, r.evaluation.images) for r in runs if r.evaluation}
    return (
        len(measured) < 2 and len({repr(lookup(r.run, "data.test.fingerprint")) for r in runs}) == 1
    )


def config_rows(runs: Sequence[RunRecord]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The configuration as dotted fields: differing between the runs, and shared."""
    flat = [flatten(run.config) for run in runs]
    fields = list(dict.fromkeys(field for config in flat for field in config))
    rows = [Row(f, tuple(Cell(config.get(f, MISSING)) for config in flat)) for f in fields]
    differ = tuple(row for row in rows if len(set(row.cells)) > 1)
    same = tuple(Row(row.name, row.cells[:1]) for row in rows if len(set(row.cells)) == 1)
    return differ, same


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested mapping as dotted names, with values written as in YAML."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[f"{prefix}{key}"] = text
    return flat


def facts(runs: Sequence[RunRecord]) -> tuple[Fact, ...]:
    """The provenance of the runs: data, hardware, precision, seed, versions, commit and command."""
    named: tuple[tuple[str, Callable[[RunRecord], str]], ...] = (
        ("Data", _data),
        ("Hardware", _hardware),
        ("Precision", lambda run: _text(lookup(run.run, "precision"))),
        ("Seed", lambda run: _text(lookup(run.config, "training.seed"))),
        ("Versions", _versions),
        ("Commit", _commit),
        ("Started", lambda run: _text(lookup(run.run, "started"))),
        ("Command", lambda run: _text(lookup(run.run, "command"))),
    )
    return tuple(fact(name, runs, [say(run) for run in runs]) for name, say in named)


def protocol(runs: Sequence[RunRecord]) -> tuple[Fact, ...]:
    """How the evaluated runs were measured, by topic."""
    measured = [(run, run.evaluation.protocol) for run in runs if run.evaluation]
    topics = dict.fromkeys(topic for _, said in measured for topic in said)
    chosen = [run for run, _ in measured]
    return tuple(fact(t, chosen, [said.get(t, MISSING) for _, said in measured]) for t in topics)


def fact(name: str, runs: Sequence[RunRecord], values: Sequence[str]) -> Fact:
    """One value where all runs agree, otherwise one per run."""
    if len(set(values)) == 1:
        return Fact(name, ((None, values[0]),))
    return Fact(name, tuple((run.label, v) for run, v in zip(runs, values, strict=True)))


def describe(run: RunRecord) -> str:
    """A short description of a run, as "rotation, 1,024 codes, 40 epochs"."""
    if run.is_prior:
        size = (_text(lookup(run.config, f"prior.{name}")) for name in ("depth", "width"))
        return "{} layers of width {}, {}".format(*size, _length(run))
    estimator = lookup(run.config, "quantizer.estimator")
    parts = [str(estimator)] if estimator else []
    if run.codebook_size:
        parts.append(f"{run.codebook_size:,} codes")
    return ", ".join([*parts, _length(run)])


def _length(run: RunRecord) -> str:
    done, planned = run.epochs[-1].number, lookup(run.config, "training.epochs")
    if isinstance(planned, int) and planned > done:
        return f"{done} of {planned} epochs"
    return f"{done} epoch{'s' * (done != 1)}"


def _data(run: RunRecord) -> str:
    def split(name: str) -> str:
        part = lookup(run.run, f"data.{name}")
        if not isinstance(part, Mapping):
            return f"{name} unknown"
        if run.is_prior:
            return f"{_number(part.get('images'))} {name} images"
        size = "x".join(_text(part.get(side)) for side in ("channels", "height", "width"))
        return f"{_number(part.get('images'))} {name} images of {size}"

    source = lookup(run.run, "data.source")
    origin = f" ({source})" if source else ""
    return f"{data_name(run)}{origin}: {split('train')}, {split('test')}"


def data_name(run: RunRecord) -> str:
    """The name of the data set."""
    return _text(lookup(run.run, "data.name"))


def _hardware(run: RunRecord) -> str:
    hardware = lookup(run.run, "hardware")
    if not isinstance(hardware, Mapping):
        return MISSING
    rest = [f"{name} {_text(v)}" for name, v in hardware.items() if name != "name"]
    return f"{_text(hardware.get('name'))} ({', '.join(rest)})"


def _versions(run: RunRecord) -> str:
    versions = lookup(run.run, "versions")
    others = versions if isinstance(versions, Mapping) else {}
    named = {"rotvq": lookup(run.run, "rotvq"), **others}
    return ", ".join(f"{name} {_text(version)}" for name, version in named.items())


def _commit(run: RunRecord) -> str:
    commit = lookup(run.run, "git.commit")
    if not commit:
        return MISSING
    return f"{commit}{' with uncommitted changes' * bool(lookup(run.run, 'git.dirty'))}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _text(value)


def _text(value: Any) -> str:
    return MISSING if value is None else str(value)
