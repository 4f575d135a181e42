"""Figures of one run: reproducible, complete, and robust to missing and damaged records."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from rotvq.errors import UserError
from rotvq.report import style, tiles
from rotvq.run_record import Epoch
from rotvq.studies import run_figures as figures
from rotvq.studies.milestones import RECONSTRUCTIONS, milestone
from rotvq.studies.plan import GRADIENTS
from rotvq.studies.results import Result


@pytest.fixture
def result(make_results) -> Result:
    return make_results(studies=["figures"]).of("figures")[0]


def _with_uses(result: Result, *uses: list[int]) -> Result:
    random = np.random.default_rng(0)
    epochs = [
        {"epoch": at, "points": random.normal(size=(len(use), 2)).tolist(), "uses": use}
        for at, use in enumerate(uses, start=1)
    ]
    return replace(result, measured={"tsne": {"format": 1, "epochs": epochs}})


def test_each_figure_is_the_same_bytes_each_time_and_as_wide_as_the_page(result, pixels):
    for draw in (figures.curves, figures.codebook_maps, figures.gradient_flow):
        picture = draw("name", result)
        assert picture == draw("name", result)
        assert pixels(picture.png).shape[1] == style.WIDTH * style.DPI
    drawn = figures.reconstructions("name", result)
    assert drawn == figures.reconstructions("name", result)
    assert pixels(drawn.png).shape[1] == drawn.width


def _rows(monkeypatch, result, epochs=None):
    seen = []
    drawn = tiles.Drawn(b"", 0)
    monkeypatch.setattr(tiles, "draw", lambda blocks: seen.extend(blocks) or drawn)
    figures.reconstructions("name", result, epochs)
    (rows,) = seen
    return rows


def test_reconstructions_are_those_of_the_milestones(result, monkeypatch):
    rows = _rows(monkeypatch, result)
    at = {epoch: milestone(epoch, 4) for epoch in RECONSTRUCTIONS}
    assert [row.label for row in rows] == [
        "original",
        *(f"epoch {paper} of 100 (here: {here} of 4)" for paper, here in at.items()),
    ]
    assert rows[-1].label == "epoch 99 of 100 (here: 4 of 4)"
    for row, epoch in zip(rows[1:], at.values(), strict=True):
        expected = tiles.pairs_of(result.record, epoch).reconstructions[0]
        assert np.array_equal(row.tiles, expected)


def test_reconstructions_without_a_picture_are_left_out(result, monkeypatch):
    rows = _rows(monkeypatch, result, {0: 1, 99: 7})
    assert [row.label for row in rows] == ["original", "epoch 0 of 100 (here: 1 of 4)"]
    with pytest.raises(UserError, match=r"expected the picture of an epoch among \[7\]"):
        figures.reconstructions("name", result, {99: 7})


def test_a_legend_names_dead_codes_where_there_are_some(result, pixels):
    alive, some, none = [3, 1, 4, 1], [0, 0, 9, 2], [0, 0, 0, 0]
    without = pixels(figures.codebook_maps("name", _with_uses(result, alive)).png)
    for uses in ([alive, some], [none], [none, alive]):
        drawn = pixels(figures.codebook_maps("name", _with_uses(result, *uses)).png)
        assert drawn.shape[0] > without.shape[0]


def test_equal_uses_and_a_single_code_have_a_color(result, pixels):
    drawn = pixels(figures.codebook_maps("name", _with_uses(result, [2, 2], [5])).png)
    assert np.ptp(drawn.astype(int), axis=-1).any(), "some pixel is neither black, gray nor white"


def test_gradients_are_placed_by_layer_and_epoch():
    norms = {
        2: {"encoder.0.weight": 1.0, "encoder.0.bias": 2.0, "decoder.1.weight": 0.0},
        4: {"encoder.0.weight": 3.0, "encoder.0.bias": 4.0, "decoder.1.weight": 5.0},
    }
    layers, sides = figures.by_layer(norms, range(2, 5))
    assert layers == ["encoder.0", "decoder.1"]
    nan = np.nan
    np.testing.assert_array_equal(sides["Weights"], [[1, nan, 3], [0, nan, 5]])
    np.testing.assert_array_equal(sides["Biases"], [[2, nan, 4], [nan, nan, nan]])


@pytest.mark.parametrize("norm", [0.0, 0.1, None])
def test_gradients_of_one_epoch_and_one_value_are_drawn(result, count, norm):
    names = ("encoder.0.weight", "decoder.0.weight")
    record = {"format": 1, "epochs": {"1": dict.fromkeys(names, norm)}}
    (result.run.folder / GRADIENTS).write_text(json.dumps(record))
    cells = count(figures.gradient_flow("name", result).png, figures.ZERO) > 10_000
    assert cells == (norm == 0)


@pytest.mark.parametrize("content", [None, "", "[]", '{"epochs": {"one": {}}}', '{"epochs": {}}'])
def test_damaged_gradients_are_reported(result, content):
    path = result.run.folder / GRADIENTS
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"gradients\.json: expected the gradient norms"):
        figures.gradient_flow("name", result)


def test_curves_accept_a_single_epoch_and_values_outside_their_axes(make_results, count):
    (result,) = make_results("one", studies=["training"]).of("training")
    epoch = Epoch(1, {"loss": math.nan, "reconstruction_loss": 0.0, "perplexity": 5.0}, {}, {})
    picture = figures.curves("a", replace(result, record=replace(result.record, epochs=(epoch,))))
    assert count(picture.png, style.color(0))  # the point of the perplexity
