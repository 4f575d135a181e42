"""Tables of runs. Pure: records to texts."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rotvq.run_record import RunRecord, lookup
from rotvq.text import counted

MISSING = "—"


class Cell(NamedTuple):
    """A text, whether it is the best of its metric, and the number that it is sorted by."""

    text: str
    best: bool = False
    value: float | None = None


class Row(NamedTuple):
    """A named row of cells."""

    name: str
    cells: tuple[Cell, ...]


class Fact(NamedTuple):
    """A fact about all runs (one value without a label) or about each run (a value per label)."""

    name: str
    values: tuple[tuple[str | None, str], ...]


def listed(names: Sequence[str]) -> str:
    """Names as a phrase: "a", "a and b", "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def short_names(names: Sequence[str]) -> list[str]:
    """Dotted names without the part before the last dot, where that leaves them distinct."""
    last = [name.rpartition(".")[2] for name in names]
    return [one if last.count(one) == 1 else name for one, name in zip(last, names, strict=True)]


def comparable(runs: Sequence[RunRecord]) -> bool:
    """Whether all runs were tested on the same images."""
    measured = {(r.evaluation.split, r.evaluation.images) for r in runs if r.evaluation}
    return (
        len(measured) < 2 and len({repr(lookup(r.run, "data.test.fingerprint")) for r in runs}) == 1
    )


def judged_alike(runs: Sequence[RunRecord]) -> bool:
    """Whether all runs that were measured with a classifier were measured with the same one."""
    return len({repr(r.evaluation.classifier) for r in runs if r.evaluation} - {"None"}) < 2


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
        depth, width = (_text(lookup(run.config, f"prior.{name}")) for name in ("depth", "width"))
        return f"{depth} layer{'s' * (depth != '1')} of width {width}, {length(run)}"
    estimator = lookup(run.config, "quantizer.estimator")
    parts = [str(estimator)] if estimator else []
    if run.codebook_size:
        several = f"{run.codebooks} codebooks of " if run.codebooks > 1 else ""
        parts.append(f"{several}{run.codebook_size:,} codes")
    return ", ".join([*parts, length(run)])


def length(run: RunRecord) -> str:
    """The epochs of a run: "24 epochs", or "12 of 24 epochs" if it is not finished."""
    done = run.epochs[-1].number
    if is_unfinished(run):
        return f"{done} of {lookup(run.config, 'training.epochs')} epochs"
    return counted(done, "epoch")


def is_unfinished(run: RunRecord) -> bool:
    """Whether a run has fewer epochs than planned."""
    planned = lookup(run.config, "training.epochs")
    return isinstance(planned, int) and planned > run.epochs[-1].number


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
    """The name of the dataset."""
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
