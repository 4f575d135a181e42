"""The benchmarks' table, figure and timing; the committed table matches the committed record."""

import json
import re
from pathlib import Path

import page
import pytest
import torch
from timing import race, summary

RESULTS = Path(__file__).parents[1] / "results/benchmarks"


@pytest.fixture(scope="module")
def record():
    return json.loads((RESULTS / "quantizer_cpu.json").read_text())


def test_the_table_is_that_of_the_record(record):
    assert page.table(record) == (RESULTS / "quantizer_cpu.md").read_text()


def test_the_speed_page_says_what_was_measured(record):
    speed = (RESULTS.parents[1] / "docs/speed.md").read_text()
    steps = {r["k"]: r for r in record["rows"] if r["sweep"] == "k" and r["mode"] == "step"}
    for k in (1024, 8192, 16384):
        times = steps[k]["times_ours"][page.PEER]["median"]
        assert re.search(rf"{k:,}.*{times:.1f}", speed), (k, times)


def test_a_peer_that_needs_too_much_memory_is_marked(record):
    row = next(row for row in record["rows"] if page.PEER not in row["extra_bytes"])
    assert page.cells(row)[-1] == "too much"


def test_the_figure_shows_the_medians_of_a_step_over_k(record, monkeypatch):
    monkeypatch.setattr(page.style, "png", lambda figure: figure)
    time, room = page.figure(record).axes
    steps = [r for r in record["rows"] if r["sweep"] == "k" and r["mode"] == "step"]
    for axes, key, scale in ((time, "seconds", 1e3), (room, "extra_bytes", 1 / page.MIB)):
        expected = []
        for name in ("rotvq", page.PEER, page.PRODUCT):
            rows = [r for r in steps if name in r[key]]
            values = [r[key][name] for r in rows]
            if key == "seconds":
                values = [value["median"] for value in values]
            if rows:
                expected.append(([r["k"] for r in rows], [scale * value for value in values]))
        found = [tuple(map(list, line.get_data())) for line in axes.get_lines()]
        assert found == expected and len(found) >= 2


def test_contestants_alternate():
    turns = []
    works = {name: (lambda name=name: turns.append(name)) for name in "ab"}
    times = race(works, torch.device("cpu"))
    assert turns == ["a", "b"] * (len(times["a"]) + 2)
    assert len(times["a"]) == len(times["b"]) >= 5


def test_a_summary_is_median_and_quartiles():
    assert summary([1.0, 2.0, 3.0]) == {"median": 2.0, "quartiles": [1.0, 3.0], "rounds": 3}
