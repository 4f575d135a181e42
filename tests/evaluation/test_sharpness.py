"""Sharpness, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rotvq.evaluation.evaluate import batches, evaluate
from rotvq.evaluation.sharpness import edge_energy


def test_the_energy_of_edges_by_hand():
    x = torch.tensor([[[[0.0, 1.0, 3.0], [2.0, 1.0, 0.0]]]])
    across = 1 + 4 + 1 + 1
    down = 4 + 0 + 9
    assert edge_energy(x).tolist() == [across + down]
    assert edge_energy(torch.ones(2, 3, 4, 4)).tolist() == [0, 0]


def test_half_the_contrast_is_a_quarter_of_the_energy():
    x = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(edge_energy(0.5 * x + 2), edge_energy(x) / 4)


def test_a_record_has_the_ratio_of_the_whole_split(make_model, make_images):
    model, images = make_model(), make_images()
    record = evaluate(model, images, beta=0.25, batch_size=5)
    (x,) = batches(images, len(images), model)
    ratio = edge_energy(model.eval().decode(model.encode(x))).sum() / edge_energy(x).sum()
    assert record["metrics"]["sharpness"] == pytest.approx(ratio.item(), rel=1e-4)
    assert math.isnan(evaluate(model, 0 * images, beta=0.25)["metrics"]["sharpness"])
