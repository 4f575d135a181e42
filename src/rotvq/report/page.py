"""The report on runs: records, tables and figures on one HTML page and in one Markdown file."""

import shlex
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.files import write_bytes, write_text
from rotvq.guarded import check_not_linked
from rotvq.report import figures, style, tables, tiles
from rotvq.report.templating import render
from rotvq.run_record import RunRecord, load_runs


class Picture(NamedTuple):
    """A PNG with its file name, its width on the page in pixels, alternative text and caption."""

    name: str
    png: bytes
    width: int
    alt: str
    caption: str

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        return f"data:image/png;base64,{b64encode(self.png).decode('ascii')}"


@dataclass(frozen=True)
class Page:
    """Everything that the templates show, in the order of the page."""

    title: str
    summary: str
    notices: tuple[str, ...]
    labels: tuple[str, ...]
    facts: tuple[tables.Fact, ...]
    metrics: tuple[tables.Row, ...]
    measured: str
    differing: tuple[tables.Row, ...]
    common: tuple[tables.Row, ...]
    reconstructions: tuple[Picture, ...]
    progress: tuple[Picture, ...]
    curves: Picture
    usage: Picture | None
    protocol: tuple[tables.Fact, ...]
    commands: tuple[str, ...]
    is_prior: bool = False

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in the order of the page."""
        last = (self.usage,) if self.usage else ()
        return (*self.reconstructions, *self.progress, self.curves, *last)


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write report.html (self-contained), report.md and figures/*.png; return the HTML's path.

    Raises:
        UserError: a run's records cannot be read, or `out` cannot be written.
    """
    page = build_page(load_runs(runs))
    write_page(page, page.pictures, Path(out), "report")
    return Path(out) / "report.html"


def write_page(
    page: object, pictures: Iterable[Picture], out: Path, name: str, template: str | None = None
) -> None:
    """Write NAME.html and NAME.md through templates of that name or another, and the figures.

    Raises:
        UserError: `out` cannot be written, or `figures` is a link to another folder.
    """
    folder = out / "figures"
    try:
        check_not_linked(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            write_bytes(folder / picture.name, picture.png)
        for kind in ("md", "html"):
            write_text(out / f"{name}.{kind}", render(page, f"{template or name}.{kind}.j2"))
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: expected a writable folder for the report; got "
            f"{error.strerror}. Choose another one."
        ) from None


def build_page(runs: Sequence[RunRecord]) -> Page:
    """The page on these runs, all of tokenizers or all of priors.

    Raises:
        UserError: some are of tokenizers and some of priors.
    """
    is_prior = runs[0].is_prior
    if any(run.is_prior != is_prior for run in runs):
        raise UserError(
            "expected runs of tokenizers or runs of priors; got both. Write a report on each kind."
        )
    differing, common = tables.config_rows(runs)
    return Page(
        title=_title(runs),
        summary=_summary(runs),
        notices=_notices(runs),
        labels=tuple(run.label for run in runs),
        facts=tables.facts(runs),
        metrics=tables.metric_rows(runs),
        measured=_measured(runs),
        differing=differing,
        common=common,
        reconstructions=_samples(runs) if is_prior else _reconstructions(runs),
        progress=() if is_prior else _progress(runs),
        curves=_curves(runs),
        usage=_usage(runs),
        protocol=tables.protocol(runs),
        commands=tuple(command for run in runs for command in _commands(run)),
        is_prior=is_prior,
    )


def _title(runs: Sequence[RunRecord]) -> str:
    return runs[0].label if len(runs) == 1 else f"{len(runs)} runs compared"


def _summary(runs: Sequence[RunRecord]) -> str:
    names = " and ".join(dict.fromkeys(tables.data_name(run) for run in runs))
    if runs[0].is_prior:
        said = "; ".join(f"{run.label} ({tables.describe(run)})" for run in runs)
        return f"Priors over tokens, trained on {names}: {said}."
    if len(runs) == 1:
        return f"A vector-quantized autoencoder ({tables.describe(runs[0])}) trained on {names}."
    said = "; ".join(f"{run.label} ({tables.describe(run)})" for run in runs)
    return f"Vector-quantized autoencoders trained on {names}: {said}."


def _notices(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    notices = [f"{run.label}: {note}" for run in runs for note in run.notes]
    notices += [
        f"{run.label}: not evaluated yet. Run: {_evaluate(run)}"
        for run in runs
        if not run.evaluation and not run.is_prior
    ]
    notices += [
        f"{run.label}: {advice}"
        for run in runs
        if (advice := run.epochs[-1].codebook.get("warning"))
    ]
    what = "samples" if runs[0].is_prior else "reconstructions"
    notices += [f"{run.label}: no {what} recorded." for run in runs if not run.pictures]
    if not tables.comparable(runs):
        notices.append(
            "The runs were tested on different images; their metrics cannot be compared."
        )
    return tuple(notices)


def _measured(runs: Sequence[RunRecord]) -> str:
    evaluations = [run.evaluation for run in runs if run.evaluation]
    splits = dict.fromkeys(f"{e.images:,} images of the {e.split} split" for e in evaluations)
    sentences = [f"Measured on {' or '.join(splits)}."] if splits else []
    if len(runs) > 1 and not runs[0].is_prior:
        sentences.append(
            "Codebook and commitment losses are in the units of each run's own latents and cannot "
            "be compared between runs."
        )
    return " ".join(sentences)


def _reconstructions(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    pictures = []
    for n, blocks in enumerate(tiles.reconstruction_groups(runs), start=1):
        images = sum(len(block[0].tiles) for block in blocks)
        labels = ", ".join(row.label for row in blocks[0][1:])
        alt = f"{images} test images, each above its reconstructions by: {labels}."
        caption = (
            "Fixed test images and their reconstructions after the last recorded epoch, enlarged "
            "without smoothing."
        )
        pictures.append(_tiles(f"reconstructions-{n}.png", blocks, alt, caption))
    return tuple(pictures)


def _samples(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    pictures = []
    for n, run in enumerate((run for run in runs if run.pictures), start=1):
        epoch = max(run.pictures)
        drawn = tiles.whole(run.pictures[epoch])
        alt = f"{run.label}: images drawn from the prior after epoch {epoch}."
        caption = f"{alt} One class after the other, without guidance, none left out."
        pictures.append(Picture(f"samples-{n}.png", drawn.png, drawn.width, alt, caption))
    return tuple(pictures)


def _progress(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    pictures = []
    for n, run in enumerate(runs, start=1):
        if not run.pictures:
            continue
        rows = tiles.progress_rows(run)
        alt = (
            f"{run.label}: {len(rows[0].tiles)} test images, each above its reconstructions after "
            f"{', '.join(row.label for row in rows[1:])}."
        )
        caption = f"{run.label}: the first row of test images during training."
        pictures.append(_tiles(f"progress-{n}.png", [rows], alt, caption))
    return tuple(pictures)


def _tiles(name: str, blocks: Sequence[Sequence[tiles.Row]], alt: str, caption: str) -> Picture:
    drawn = tiles.draw(blocks)
    return Picture(name, drawn.png, drawn.width, alt, caption)


def _curves(runs: Sequence[RunRecord]) -> Picture:
    titles = ", ".join(panel.title for panel in figures.panels(runs))
    if runs[0].is_prior:
        caption = "Bits per token after each epoch; solid: test, dashed: training."
        return _figure(
            "curves.png", figures.curves(runs), f"Curves over epochs: {titles}.", caption
        )
    ends = "; ".join(
        f"{run.label} ends at {run.epochs[-1].test.get('psnr', np.nan):.2f} dB after "
        f"{run.epochs[-1].number} epochs"
        for run in runs
    )
    alt = f"Curves over epochs: {titles}. PSNR of the mean test MSE: {ends}."
    caption = (
        "Metrics after each epoch; solid: test, dashed: training. Losses on logarithmic axes. "
        "Perplexity and usage are of the whole split."
    )
    return _figure("curves.png", figures.curves(runs), alt, caption)


def _usage(runs: Sequence[RunRecord]) -> Picture | None:
    evaluated = [run for run in runs if run.counts]
    if not evaluated:
        return None
    used = "; ".join(
        f"{run.label} uses {np.count_nonzero(run.counts)} of {len(run.counts)}" for run in evaluated
    )
    alt = f"Codes by their share of the tokens, logarithmic, next to a uniform share: {used}."
    caption = (
        "Codes sorted by their share of the tokens of the evaluated split. Dashed: all codes used "
        "equally. Bars below the curves: codes that no token uses."
    )
    return _figure("usage.png", figures.usage(runs), alt, caption)


def _figure(name: str, png: bytes, alt: str, caption: str) -> Picture:
    return Picture(name, png, style.WIDTH * style.PAGE_DPI, alt, caption)


def _commands(run: RunRecord) -> tuple[str, ...]:
    """Commands with the configuration saved with the run, as the user's file may have changed."""
    path = _shown(run.path)
    again = path.with_name(f"{path.name}-again") if path.name else Path("again")
    saved, out = shlex.quote(str(path / run_folder.CONFIG)), shlex.quote(str(again))
    if run.is_prior:
        return (f"rotvq prior --config {saved} --out {out}",)
    return f"rotvq train --config {saved} --out {out}", _evaluate(run)


def _evaluate(run: RunRecord) -> str:
    return f"rotvq evaluate {shlex.quote(str(_shown(run.path)))}"


def _shown(path: Path) -> Path:
    """Relative to the current folder where it is inside it."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd())
    return path
