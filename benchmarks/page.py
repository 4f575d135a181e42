"""The record of the quantizer benchmark as a line, a table and a figure. Pure functions."""

from __future__ import annotations

from typing import Any

from contestants import PEER, PRODUCT
from matplotlib.figure import Figure

from rotvq.report import style

MIB = 2**20
COLUMNS = (
    "n", "d", "k", "mode", "rotvq, ms", "peer / rotvq", "rotvq / product",
    "rotvq, MiB", "peer, MiB",
)  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """A measurement as one line of plain text."""
    return "  ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, cells(row), strict=True))


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A measurement as a row of the table."""
    ours, ratio = row["seconds"]["rotvq"], row["times_ours"]
    low, high = (1e3 * q for q in ours["quartiles"])
    extra = row["extra_bytes"]
    return (
        f"{row['n']:,}",
        str(row["d"]),
        f"{row['k']:,}",
        row["mode"],
        f"{1e3 * ours['median']:.1f} ({low:.1f} to {high:.1f})",
        _spread(ratio.get(PEER)),
        f"{1 / ratio[PRODUCT]['median']:.2f}",
        f"{extra['rotvq'] / MIB:.0f}",
        f"{extra[PEER] / MIB:,.0f}" if PEER in extra else "too much",
    )


def table(record: dict[str, Any]) -> str:
    """The whole record as Markdown."""
    hardware, versions = record["hardware"], record["versions"]
    lines = [
        "# The quantizer compared with its peer and the matrix product",
        "",
        f"{record['what']}. {hardware['name']}, {hardware['cores']} cores, "
        f"{hardware['threads']} threads, torch {versions['torch']}; peer: {PEER} "
        f"{versions[PEER]}; product: z·eᵀ in float32 alone. Calls are interleaved in one process; "
        "memory is the peak of a call, on a CPU in a separate process, without inputs, outputs, "
        "gradients and codebook.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(cells(row)) + " |" for row in record["rows"]),
        "",
    ]
    return "\n".join(lines)


def figure(record: dict[str, Any]) -> bytes:
    """Time and memory of a training step over the codebook size, with the matrix product."""
    rows = [r for r in record["rows"] if r["sweep"] == "k" and r["mode"] == "step"]
    looks: dict[str, dict[str, Any]] = {
        "rotvq": {"color": style.color(0), "marker": "o"},
        PEER: {"color": style.color(1), "marker": "s"},
        PRODUCT: {"color": style.REFERENCE, "linestyle": "--"},
    }
    with style.look():
        plot = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
        time, room = plot.subplots(1, 2)
        for name, looking in looks.items():
            held = [r for r in rows if name in r["seconds"]]
            values = [1e3 * r["seconds"][name]["median"] for r in held]
            time.plot([r["k"] for r in held], values, label=name, **looking)
            held = [r for r in rows if name in r["extra_bytes"]]
            if held:
                values = [r["extra_bytes"][name] / MIB for r in held]
                room.plot([r["k"] for r in held], values, **looking)
        for axes, title, unit in ((time, "Time ↓", "ms per step"), (room, "Memory ↓", "extra MiB")):
            axes.set_title(title)
            axes.set_ylabel(unit)
            axes.set_xlabel("codebook size K")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks([r["k"] for r in rows], [f"{r['k']:,}" for r in rows])
            axes.minorticks_off()
        style.legend(plot, time.get_lines(), list(looks))
        return style.png(plot)


def _spread(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return "–"
    low, high = ratio["quartiles"]
    return f"{ratio['median']:.1f} ({low:.1f} to {high:.1f})"
