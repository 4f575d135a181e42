import json
import math
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rotvq.report import figures, style
from rotvq.run_record import load_run, load_runs


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def _has(png: bytes, color: str) -> bool:
    value = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((_pixels(png) == value).all(axis=-1).any())


def test_each_run_has_its_color_in_both_figures(make_run):
    runs = load_runs([make_run(name, codes=codes) for name, codes in (("a", 64), ("b", 32))])
    for png in (figures.curves(runs), figures.usage(runs)):
        assert _has(png, style.color(0)) and _has(png, style.color(1))
        assert not _has(png, style.color(2))
        assert _pixels(png).shape[1] == style.WIDTH * style.DPI


def test_a_run_without_counts_is_left_out_of_the_usage(make_run):
    runs = load_runs([make_run("a", evaluated=False), make_run("b")])
    png = figures.usage(runs)
    assert _has(png, style.color(1)) and not _has(png, style.color(0))


def test_curves_accept_nan_zero_and_a_single_epoch(make_run):
    path = make_run(epochs=1)
    epoch = json.loads((path / "epochs.jsonl").read_text())
    epoch["test"] = {"psnr": math.nan, "reconstruction_loss": 0.0, "perplexity": math.inf}
    (path / "epochs.jsonl").write_text(json.dumps(epoch))
    assert _has(figures.curves([load_run(path)]), style.color(0))  # the train split's point


def test_a_panel_over_time_has_the_minutes_of_training(make_run):
    path = make_run(epochs=3)
    lines = [json.loads(line) for line in (path / "epochs.jsonl").read_text().splitlines()]
    for line, seconds in zip(lines, (60, 120, 30), strict=True):
        line["timing"]["train_seconds"] = seconds
    lines[1]["test"] = {}
    (path / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (panel,) = (panel for panel in figures.PANELS if panel.over_time)
    axes = Figure().subplots()
    figures.draw_panel(axes, panel, [load_run(path)])
    (curve,) = axes.lines
    assert list(curve.get_xdata()) == [1.0, 3.5]
    tested = [line["test"]["reconstruction_loss"] for line in lines if line["test"]]
    assert list(curve.get_ydata()) == tested
    assert axes.get_xlabel() == "minutes of training"


def test_labels_that_matplotlib_reads_otherwise_are_shown(make_run):
    runs = load_runs([make_run("_hidden"), make_run("a$\\frac$b")])
    figures.usage(runs)  # raises or warns where the legend reads a label as a formula


def test_markers_distinguish_runs_that_share_a_color():
    looks = {(style.color(n), style.marker(n)) for n in range(20)}
    assert len(looks) == 20


def test_a_figure_is_the_same_bytes_each_time(make_run):
    run = load_run(make_run())
    assert figures.usage([run]) == figures.usage([run])


def test_shorten_keeps_both_ends():
    assert style.shorten("short", 10) == "short"
    assert style.shorten("abcdefghijk", 7) == "abc…ijk"
