"""Compare our quantizer with vector-quantize-pytorch and the bare matrix product over n, d and k.

Times are of interleaved calls in one process; memory is of one call, on a CPU in another process.
Writes a record, a table and a figure; `--quick` the first two, of four sizes.

    python benchmarks/quantizer.py [--quick] [--out results/benchmarks]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import memory
import page
import torch
from contestants import CONTESTANTS, MODES, PEER, PRODUCT, Case
from timing import race, summary

from rotvq.files import write_json
from rotvq.training import environment

BASE = Case(8192, 256, 1024)
SWEEPS = {
    "k": [Case(8192, 256, k) for k in (256, 1024, 4096, 8192, 16384)],
    "n": [Case(n, 256, 1024) for n in (1024, 4096, 8192, 16384, 65536)],
    "d": [Case(8192, d, 1024) for d in (8, 32, 64, 128, 256)],
    "large": [Case(8192, 32, k) for k in (16384, 65536, 262144)],
}
QUICK = {
    f"d = {d}": [Case(8192, d, k) for k in (1024, large)] for d, large in ((256, 8192), (64, 16384))
}

PEER_TABLES = 9
"""Peak number of n×k float32 arrays that the peer holds; it is skipped where they do not fit."""

MEMORY = 8 << 30
"""Bytes a contestant may use."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="measure four sizes only (minutes)")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for sweep, case, mode in _cases(QUICK if options.quick else SWEEPS):
        rows.append({"sweep": sweep, "mode": mode, **vars(case), **_measure(case, mode, device)})
        print(page.line(rows[-1]), flush=True)
    record = {
        "what": "quantizer: rotation gradient, EMA codebook, float32; medians and quartiles",
        "rows": rows,
        "hardware": environment.hardware(device),
        "versions": environment.versions() | {PEER: version(PEER)},
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"quantizer_{device.type}"
    write_json(stem.with_suffix(".json"), record)
    stem.with_suffix(".md").write_text(page.table(record), encoding="utf-8")
    if not options.quick:
        stem.with_suffix(".png").write_bytes(page.figure(record))


def _cases(sweeps: dict[str, list[Case]]) -> Iterator[tuple[str, Case, str]]:
    """All modes over k; only the training step in the other sweeps."""
    for sweep, cases in sweeps.items():
        for case in cases:
            for mode in MODES if sweep == "k" else ("step",):
                yield sweep, case, mode


def _measure(case: Case, mode: str, device: torch.device) -> dict[str, Any]:
    fits = PEER_TABLES * case.n * case.k * 4 <= MEMORY
    names = [name for name in CONTESTANTS if fits or name != PEER]
    torch.manual_seed(0)
    works = {name: CONTESTANTS[name](case, mode, device) for name in names}
    times = race(works, device)
    ratios = {
        name: summary([a / b for a, b in zip(times[name], times["rotvq"], strict=True)])
        for name in names
        if name != "rotvq"
    }
    return {
        "seconds": {name: summary(values) for name, values in times.items()},
        "times_ours": ratios,
        "extra_bytes": {
            name: memory.extra(name, mode, case, device) for name in names if name != PRODUCT
        },
    }


if __name__ == "__main__":
    main()
