"""Pictures of test images: originals, reconstructions, and their progress during training."""

import textwrap
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rotvq import run_folder
from rotvq.errors import UserError, first_line
from rotvq.guarded import read_bytes
from rotvq.report import style
from rotvq.run_record import RunRecord, lookup

Tiles = NDArray[np.uint8]  # (columns, height, width, 3), 0..255

TARGET_WIDTH = 1024  # pixels that a row of tiles is enlarged towards
FONT_SIZE = 14
LABEL_LENGTH = 18  # characters a line
LARGEST_FILE, LARGEST_PICTURE, LARGEST_SIDE = 2**26, 2**24, 2**13  # bytes, pixels, pixels
MOST_PAIRS = 16  # of rows; a run writes two
GAP, GROUP_GAP, MARGIN = 2, 18, 14  # pixels
GAIN = 4  # of differences


class Pairs(NamedTuple):
    """A reconstruction picture cut into tiles; each entry of both lists is a row."""

    originals: list[Tiles]
    reconstructions: list[Tiles]


class Row(NamedTuple):
    """A labeled row of tiles, with the color of its run where there are several."""

    label: str
    tiles: Tiles
    color: str | None = None


class Drawn(NamedTuple):
    """A PNG and its width in pixels."""

    png: bytes
    width: int


def read_pairs(file: Path, height: int, width: int) -> Pairs:
    """Cut a picture of alternating rows (originals, reconstructions) into tiles of h x w pixels.

    Raises:
        UserError: the file is not a PNG, is larger than a run writes, or does not hold pairs of
            rows.
    """
    pixels = _pixels(file)
    rows, spare_rows = divmod(pixels.shape[0], 2 * height)
    columns, spare_columns = divmod(pixels.shape[1], width)
    if spare_rows or spare_columns or rows > MOST_PAIRS:
        raise UserError(
            f"{file}: expected a few pairs of rows of {width}x{height} tiles; got a picture of "
            f"{pixels.shape[1]}x{pixels.shape[0]} pixels. Delete it."
        )
    grid = pixels.reshape(rows, 2, height, columns, width, 3).transpose(1, 0, 3, 2, 4, 5)
    return Pairs(list(grid[0]), list(grid[1]))


def _pixels(file: Path) -> NDArray[np.uint8]:
    """A PNG of a run folder as (height, width, 3); other decoders are never tried."""
    folder = file.parent.parent
    content = BytesIO(read_bytes(file, LARGEST_FILE, within=folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow's about sizes far beyond LARGEST_SIDE
            with Image.open(content, formats=("PNG",)) as image:
                width, height = image.size
                if max(image.size) > LARGEST_SIDE or width * height > LARGEST_PICTURE:
                    raise ValueError(f"it has {width}x{height} pixels")
                return np.asarray(image.convert("RGB"))
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise UserError(
            f"{file}: expected a PNG picture of a run; {first_line(error)}. Delete it."
        ) from None


def whole(file: Path) -> Drawn:
    """A picture of a run, enlarged without smoothing.

    Raises:
        UserError: as `read_pairs`.
    """
    picture = Image.fromarray(_pixels(file))
    scale = max(1, min(4, TARGET_WIDTH // picture.width))
    size = picture.width * scale, picture.height * scale
    content = BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(content, format="PNG")
    return Drawn(content.getvalue(), size[0])


def last_pairs(run: RunRecord) -> Pairs:
    """The pairs that a run recorded last; raises as `read_pairs`."""
    return pairs_of(run, max(run.pictures))


def pairs_of(run: RunRecord, epoch: int) -> Pairs:
    """The pairs that a run recorded after an epoch; raises as `read_pairs`."""
    return read_pairs(run.pictures[epoch], *_sides(run))


def best_searched(run: RunRecord) -> tuple[int, Pairs] | None:
    """The highest effort of which a run has a picture, and its pairs; raises as `read_pairs`."""
    if not run.searched:
        return None
    effort = max(run.searched)
    return effort, read_pairs(run.searched[effort], *_sides(run))


def _sides(run: RunRecord) -> tuple[int, int]:
    height, width = (lookup(run.run, f"data.test.{side}") for side in ("height", "width"))
    if not all(type(side) is int and side > 0 for side in (height, width)):  # True is an int, too
        raise UserError(
            f"{run.path / run_folder.RUN}: expected data.test.height and .width in pixels; got "
            f"{style.shorten(f'{height!r} and {width!r}', 60)}"
        )
    return height, width


def milestones(epochs: Sequence[int]) -> list[int]:
    """The first, the last, and those nearest to 25, 50 and 75 % of the last; each once."""
    last = max(epochs)
    nearest = {min(epochs, key=lambda e: abs(e - part * last)) for part in (0.25, 0.5, 0.75)}
    return sorted(nearest | {min(epochs), last})


def difference(originals: Tiles, reconstructions: Tiles) -> Tiles:
    """Absolute differences, GAIN times; black where both are equal."""
    apart = np.abs(originals.astype(np.int16) - reconstructions)
    return np.minimum(GAIN * apart, 255).astype(np.uint8)


def grouped(entries: Sequence[tuple[str, Pairs, str]]) -> list[list[list[Row]]]:
    """The rows of one picture for each set of entries that share their originals.

    A picture is a list of blocks; a block is the originals and then a row for each entry.

    Args:
        entries: label, pictures and color of each.
    """
    pictures: list[list[list[Row]]] = []
    for label, pairs, color in entries:
        blocks = next(
            (p for p in pictures if are_same([b[0].tiles for b in p], pairs.originals)), None
        )
        if blocks is None:
            blocks = [[Row("original", tiles)] for tiles in pairs.originals]
            pictures.append(blocks)
        for block, tiles in zip(blocks, pairs.reconstructions, strict=True):
            block.append(Row(label, tiles, color))
    return pictures


def progress_rows(run: RunRecord) -> list[Row]:
    """The first originals, and their reconstructions after the milestones of the run."""
    pairs = {epoch: pairs_of(run, epoch) for epoch in milestones(list(run.pictures))}
    rows = [Row(f"epoch {epoch}", pair.reconstructions[0]) for epoch, pair in pairs.items()]
    return [Row("original", pairs[max(pairs)].originals[0]), *rows]


def draw(blocks: Sequence[Sequence[Row]]) -> Drawn:
    """Blocks of labeled rows as PNG, tiles enlarged without smoothing."""
    columns, height, width, _ = blocks[0][0].tiles.shape
    scale = max(1, min(4, TARGET_WIDTH // (columns * width)))
    font = ImageFont.truetype(style.font_file(), FONT_SIZE)
    labels = [[_wrap(row.label) for row in block] for block in blocks]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    sizes = [pen.multiline_textbbox((0, 0), text, font) for block in labels for text in block]
    left = MARGIN + 10 + int(max(size[2] for size in sizes)) + 12
    pitch = max(height * scale, int(max(size[3] for size in sizes))) + GAP
    inset = (pitch - GAP - height * scale) // 2
    rows = sum(len(block) for block in blocks)
    canvas = Image.new(
        "RGB",
        (
            left + columns * (width * scale + GAP) - GAP + MARGIN,
            rows * pitch + (len(blocks) - 1) * GROUP_GAP - GAP + 2 * MARGIN,
        ),
        "white",
    )
    pen = ImageDraw.Draw(canvas)
    y = MARGIN
    for block, texts in zip(blocks, labels, strict=True):
        for row, text in zip(block, texts, strict=True):
            if row.color:
                pen.rectangle((MARGIN, y, MARGIN + 3, y + pitch - GAP - 1), fill=row.color)
            middle = (MARGIN + 10, y + (pitch - GAP) / 2)
            pen.multiline_text(middle, text, fill="black", font=font, anchor="lm")
            for column, tile in enumerate(row.tiles):
                enlarged = tile.repeat(scale, axis=0).repeat(scale, axis=1)
                x = left + column * (width * scale + GAP)
                canvas.paste(Image.fromarray(enlarged), (x, y + inset))
            y += pitch
        y += GROUP_GAP
    buffer = BytesIO()
    canvas.save(buffer, format="png", optimize=True)
    return Drawn(buffer.getvalue(), canvas.width)


def are_same(rows: Sequence[Tiles], others: Sequence[Tiles]) -> bool:
    """Whether rows of tiles hold the same pixels."""
    return len(rows) == len(others) and all(map(np.array_equal, rows, others))


def _wrap(label: str) -> str:
    return "\n".join(textwrap.wrap(style.shorten(label, 3 * LABEL_LENGTH), LABEL_LENGTH))
