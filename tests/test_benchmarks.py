"""The benchmarks' table, figure and timing; the committed table matches the committed record."""

import json
import re
from pathlib import Path

import effort
import page
import pytest
import torch
from timing import race, summary

from rotvq.evaluation.pixels import normalized
from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer

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
        row = rf"^\| {k:,} \| 256 \| [^|]*\| {re.escape(f'{times:.1f}')} \|"
        assert re.search(row, speed, re.MULTILINE), (k, times)


def test_the_rows_of_one_thread_say_what_their_record_says():
    record = json.loads((RESULTS / "one_thread/quantizer_cpu.json").read_text())
    assert record["hardware"]["threads"] == 1
    speed = (RESULTS.parents[1] / "docs/speed.md").read_text()
    for row in record["rows"]:
        _, d, k, _, ours, peer, product, memory, of_peer = page.cells(row)
        ours, peer = f"{float(ours.split()[0]):.0f}", peer.split()[0]
        cells = (k, d, f"{ours} ms", peer, product, f"{memory} MiB", f"{of_peer} MiB")
        assert f"| {' | '.join(cells)} |" in speed


def test_the_speed_page_says_how_fast_data_sets_are_encoded():
    record = json.loads((RESULTS / "encoding_cpu.json").read_text())
    (row,) = (row for row in record["rows"] if row["preset"] == "best")
    speed = " ".join((RESULTS.parents[1] / "docs/speed.md").read_text().split())
    alone, shards, read = row["model_alone"], row["shards"], row["tokens_read_per_cpu_second"]
    each, memory, of_worker = (shards[k] for k in ("wall_us", "peak_mib", "peak_mib_of_a_worker"))
    slowest, quickest = (read[f"{k}, batches of 1024"] / 1e6 for k in ("shuffled", "in order"))
    for text in (
        f"{row['images']:,} PNGs",
        f"encode {1e6 / each:,.0f} images per second ({each:.0f} µs each)",
        f"takes {alone['wall_us']:.0f} µs",
        f"{100 * row['speed_ratio']['wall']:.0f} % of the model's own speed",
        f"worker takes {shards['worker_cpu_us']:.0f} µs",
        f"{100 * row['speed_ratio']['all_cores_busy']:.0f} % remain",
        f"took {memory:.0f} MiB, and the worker {of_worker:.0f} MiB",
        f"reads {slowest:.0f} to {quickest:.0f} million tokens",
        f"and {read['shuffled, batches of 128'] / 1e6:.0f} million, shuffled",
    ):
        assert text in speed, text


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


def test_the_plain_search_of_codes_lowers_the_error():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(24, 6, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    model = VQVAE(width=16, dim=6, depth=1, quantizer=quantizer, network="patches").eval()
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    points = [*effort.plain_search(model, images)]
    x = normalized(images)
    errors = [error for _, error in points]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.99 * (model.decode(model.encode(x)) - x).square().mean().item()
    row = effort.STRIDE * (effort.CANDIDATES + 2)
    rows = effort.SWEEPS * effort.STRIDE
    assert [passes for passes, _ in points] == [2 + row * n for n in range(1, rows + 1)]


def test_the_figure_of_effort_shows_the_points_of_the_record(monkeypatch):
    monkeypatch.setattr(effort.style, "png", lambda figure: figure)
    rows = [
        {"effort": n, "passes": 10 * n, "mse": 2 / (1 + n), "seconds_one_thread": n + 0.5}
        for n in range(3)
    ]
    record = {"efforts": rows, "default_effort": 1, "plain": [{"passes": 8, "mse_ratio": 0.9}]}
    passes, times = effort.figure(record).axes
    (ours, plain), (over_time,) = passes.get_lines(), times.get_lines()
    assert ours.get_xydata().tolist() == [[10, 0.5], [20, pytest.approx(1 / 3)]]
    assert plain.get_xydata().tolist() == [[8, 0.9]]
    assert over_time.get_xydata().tolist() == [[500, 2], [1500, 1], [2500, pytest.approx(2 / 3)]]
    assert [text.get_text() for text in times.texts] == ["0", "1 (default)", "2"]


def test_contestants_alternate():
    turns = []
    works = {name: (lambda name=name: turns.append(name)) for name in "ab"}
    times = race(works, torch.device("cpu"))
    assert turns == ["a", "b"] * (len(times["a"]) + 2)
    assert len(times["a"]) == len(times["b"]) >= 5


def test_a_summary_is_median_and_quartiles():
    assert summary([1.0, 2.0, 3.0]) == {"median": 2.0, "quartiles": [1.0, 3.0], "rounds": 3}
