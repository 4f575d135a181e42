"""The look of every figure: colors safe for color-blind readers, sizes fit for print."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rotvq.text import printable

# Okabe and Ito, "Color Universal Design" (2008); yellow last, as it is faint on white.
COLORS = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # bluish green
    "#CC79A7",  # reddish purple
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#000000",  # black
    "#F0E442",  # yellow
)
MARKERS = ("None", "o", "s", "^")  # distinguish runs that share a color
REFERENCE = "#6b6b6b"
DPI = 160
WIDTH = 10  # inches
PAGE_DPI = 115  # pixels of the page an inch

_RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def look() -> AbstractContextManager[None]:
    """The context to draw every figure in."""
    return matplotlib.rc_context(_RC)


def color(run: int) -> str:
    """The color of the run at this position in the report."""
    return COLORS[run % len(COLORS)]


def marker(run: int) -> str:
    """The marker of the run at this position: none for the first eight."""
    return MARKERS[run // len(COLORS) % len(MARKERS)]


def plain(text: str) -> str:
    """Any text as a one-line label, without formulas or characters that matplotlib rejects."""
    return printable(text).replace("$", r"\$")


def legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend above the axes, in as many columns as fit."""
    columns = max(1, 150 // (max(map(len, labels)) + 8))  # about 150 characters a line
    names = [plain(label) for label in labels]
    figure.legend(handles, names, loc="outside upper left", ncols=min(columns, len(names)))


def log_ticks(axis: Axis, steps: Sequence[float] = (1, 2, 3, 5)) -> None:
    """Plain numbers on a logarithmic axis, at these multiples of the powers of ten."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def shorten(text: str, length: int) -> str:
    """Text of at most `length` characters, shortened in the middle."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def font_file() -> Path:
    """The font that ships with matplotlib, for text drawn without it."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes; the text of the page shows them.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
