"""The pictures of a report, with alternative text and captions. Pure but for reading pictures."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np

from rotvq.report import codebook, figures, style, sweep_figures, tiles
from rotvq.report.codebook import Looks
from rotvq.report.page import Picture
from rotvq.run_record import RunRecord

MOST_SEARCHED = 4
"""Runs whose reconstructions at the highest effort are shown too; more need the space."""


def one_run(run: RunRecord, looks: Looks | None) -> tuple[Picture, ...]:
    """Originals, reconstructions, their difference, and tokens where the model drew them."""
    if not run.pictures:
        return ()
    epoch = max(run.pictures)
    pairs = tiles.last_pairs(run)
    blocks = [
        [
            tiles.Row("original", x),
            tiles.Row("reconstruction", y),
            tiles.Row(f"difference ×{tiles.GAIN}", tiles.difference(x, y)),
        ]
        for x, y in zip(*pairs, strict=True)
    ]
    more = f" Difference: between reconstruction and original, multiplied by {tiles.GAIN}."
    searched = tiles.best_searched(run)
    if searched and tiles.are_same(searched[1].originals, pairs.originals):
        for block, found in zip(blocks, searched[1].reconstructions, strict=True):
            block.append(tiles.Row(f"effort {searched[0]}", found))
        more += f" Effort {searched[0]}: decoded from tokens found by the search."
    if looks and [each.shape for each in looks.tokens] == [x.shape for x in pairs.originals]:
        for block, drawn in zip(blocks, looks.tokens, strict=True):
            block.append(tiles.Row("tokens", drawn))
        which = "the first code of each" if len(looks.codes) > 1 else "the code of each"
        more += f" Tokens: {which} as it looks among tokens of a mid-gray image."
    count = sum(len(x) for x in pairs.originals)
    alt = f"{count} {run.watched} images, each above its reconstruction after epoch {epoch}."
    caption = f"Reconstructions of a fixed set of {run.watched} images after epoch {epoch}.{more}"
    return (_tiles("reconstructions-1.png", blocks, alt, caption),)


def several_runs(
    runs: Sequence[RunRecord],
    labels: Sequence[str],
    name: str = "reconstructions",
    first: bool = False,
) -> tuple[Picture, ...]:
    """Originals above the reconstructions of each run; a picture for each set of originals.

    With `first`, only the first row of originals, as there are many runs.
    """
    entries = []
    for n, (run, label) in enumerate(zip(runs, labels, strict=True)):
        if run.pictures:
            entries.append((label, tiles.last_pairs(run), style.color(n)))
            if (found := tiles.best_searched(run)) and len(runs) <= MOST_SEARCHED:
                entries.append((f"{label}, effort {found[0]}", found[1], style.color(n)))
    pictures = []
    for n, blocks in enumerate(tiles.grouped(entries), start=1):
        blocks = blocks[:1] if first else blocks
        images = sum(len(block[0].tiles) for block in blocks)
        shown = ", ".join(row.label for row in blocks[0][1:])
        alt = f"{images} test images, each above its reconstructions by: {shown}."
        caption = "Test images and their reconstructions after the last recorded epoch of each run."
        pictures.append(_tiles(f"{name}-{n}.png", blocks, alt, caption))
    return tuple(pictures)


def samples(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    """Images drawn from each prior."""
    pictures = []
    for n, run in enumerate((run for run in runs if run.pictures), start=1):
        epoch = max(run.pictures)
        drawn = tiles.whole(run.pictures[epoch])
        alt = f"{run.label}: images drawn from the prior after epoch {epoch}."
        caption = f"{alt} One class after the other, without guidance, none left out."
        pictures.append(Picture(f"samples-{n}.png", drawn.png, drawn.width, alt, caption))
    return tuple(pictures)


def progress(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    """The first row of test images after some epochs of each run."""
    pictures = []
    for n, run in enumerate(runs, start=1):
        if not run.pictures:
            continue
        rows = tiles.progress_rows(run)
        after = ", ".join(row.label for row in rows[1:])
        alt = (
            f"{run.label}: {len(rows[0].tiles)} {run.watched} images, each above its "
            f"reconstructions after {after}."
        )
        caption = f"{run.label}: the first row of {run.watched} images during training."
        pictures.append(_tiles(f"progress-{n}.png", [rows], alt, caption))
    return tuple(pictures)


def curves(runs: Sequence[RunRecord]) -> Picture:
    """Metrics over the epochs."""
    titles = ", ".join(panel.title for panel in figures.panels(runs))
    png = figures.curves(runs)
    if runs[0].is_prior:
        caption = "Bits per token after each epoch: test (solid), training (dashed)."
        return _plot("curves.png", png, f"Curves over epochs: {titles}.", caption)
    ends = "; ".join(
        f"{run.label} ends at {run.epochs[-1].test.get('psnr', np.nan):.2f} dB after "
        f"{run.epochs[-1].number} epochs"
        for run in runs
    )
    alt = f"Curves over epochs: {titles}. PSNR of the mean test MSE: {ends}."
    caption = (
        "Metrics after each epoch: test (solid) and training (dashed). Losses are on a log scale. "
        "Perplexity and usage are of the whole split."
    )
    return _plot("curves.png", png, alt, caption)


def usage(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    """Codes by frequency, of the runs that were evaluated."""
    evaluated = [run for run in runs if run.counts]
    if not evaluated:
        return ()
    used = "; ".join(
        f"{run.label} uses {np.count_nonzero(run.counts)} of {len(run.counts)}" for run in evaluated
    )
    alt = f"Codes by their share of the tokens, logarithmic, next to a uniform share: {used}."
    caption = (
        "Codes sorted by their share of the tokens of the evaluated split. Dashed: all codes used "
        "equally. Bars below the curves: codes that no token uses."
    )
    return (_plot("usage.png", figures.usage(runs), alt, caption),)


def health(run: RunRecord) -> tuple[Picture, ...]:
    """Cluster sizes over training, where they were recorded."""
    png = figures.cluster_sizes(run)
    if png is None:
        return ()
    alt = "Quantiles of the cluster sizes after each epoch, relative to the mean, and dead codes."
    caption = (
        "How evenly training uses the codes. Left: cluster sizes relative to their mean; line: "
        "median, bands: half and 90 % of the codes. Right: codes used less than the restart "
        "threshold, or 3 % of the mean."
    )
    return (_plot("cluster_sizes.png", png, alt, caption),)


def codes(looks: Looks | None) -> tuple[Picture, ...]:
    """Every code as a picture, similar codes side by side."""
    if not looks or not looks.codes:
        return ()
    content = BytesIO()
    sheet = codebook.sheet(looks.codes)
    sheet.save(content, format="PNG", optimize=True)
    alt = "Every code, decoded at the center of a mid-gray image."
    caption = f"{alt.rstrip('.')}, with similar codes next to each other."
    return (Picture("codebook.png", content.getvalue(), sheet.width // 2, alt, caption),)


def over_parameters(
    runs: Sequence[RunRecord], parameters: Sequence[tuple[str, Sequence[str]]]
) -> tuple[Picture, ...]:
    """Each metric over each parameter of a sweep."""
    found = sweep_figures.over_parameters(runs, parameters)
    if found is None:
        return ()
    shown = ", ".join(name for name, _ in parameters)
    alt = f"PSNR, SSIM and codebook usage of every run over {shown}."
    caption = (
        "A dot for each run; lines: means of the runs with the same value. Blue: the best run."
    )
    return (_plot("parameters.png", found, alt, caption),)


def sweep_curves(runs: Sequence[RunRecord]) -> Picture:
    """Curves of the best run and the worst one among the others; runs come best first."""
    alt = f"Curves over epochs of {len(runs)} runs; the best is {runs[0].label}."
    caption = "Metrics of the test images after each epoch. Colored: the best run and the worst."
    return _plot("curves.png", sweep_figures.curves(runs), alt, caption)


def _tiles(name: str, blocks: Sequence[Sequence[tiles.Row]], alt: str, caption: str) -> Picture:
    drawn = tiles.draw(blocks)
    return Picture(name, drawn.png, drawn.width, alt, caption)


def _plot(name: str, png: bytes, alt: str, caption: str) -> Picture:
    return Picture(name, png, style.WIDTH * style.PAGE_DPI, alt, caption, is_plot=True)
