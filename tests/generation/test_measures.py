"""Measures of samples, beside values that are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from rotvq.errors import UserError
from rotvq.evaluation.classifier import Classifier
from rotvq.evaluation.pixels import normalized
from rotvq.generation.measures import PROTOCOL, measure, nearest_pixels, save_nearest


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(3, (4, 8)).eval()


def images(n, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 3, 8, 8), generator=draw, dtype=torch.uint8)


def test_samples_that_are_the_reference_are_at_no_distance(classifier):
    reference, train = images(20, 0), images(30, 1)
    with torch.no_grad():
        predicted = classifier(normalized(reference)).argmax(1)
    labels = predicted.clone()
    labels[:5] = (labels[:5] + 1) % 3
    record = measure(reference, labels, reference, train, classifier)
    assert record["metrics"]["classifier_frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert record["metrics"]["class_accuracy"] == 0.75
    assert set(record["protocol"]) == set(PROTOCOL) - {"gfid"}
    assert json.loads(json.dumps(record)) == record


def test_copies_are_found(classifier):
    train, reference = images(30, 1), images(20, 0)
    samples = train[[7, 29, 0]]
    record = measure(samples, None, reference, train, classifier)
    assert record["nearest_by_pixels"] == record["nearest_by_features"] == [7, 29, 0]
    assert record["metrics"]["nearest_pixels"] == 0
    assert record["metrics"]["nearest_features"] == pytest.approx(0, abs=1e-3)
    assert record["metrics"]["nearest_original_pixels"] > 0.5
    assert "class_accuracy" not in record["metrics"]


def test_the_nearest_image_is_that_of_a_search_in_float64():
    samples, train = images(6, 2), images(50, 3)
    difference = (samples[:, None].double() - train[None].double()) / 127.5
    expected = difference.square().mean((2, 3, 4)).sqrt().min(1)
    which, distance = nearest_pixels(samples, train, part=7)
    assert torch.equal(which, expected.indices)
    torch.testing.assert_close(distance.double(), expected.values, rtol=1e-5, atol=1e-6)


def test_gfid_compares_samples_with_the_reference(classifier):
    class Network(torch.nn.Module):
        def forward(self, x, return_features: bool):
            assert x.dtype == torch.uint8
            return x.float().mean((2, 3))

    reference = images(20, 0)
    records = [
        measure(some, None, reference, images(9, 1), classifier, inception=Network())
        for some in (reference, reference // 2)
    ]
    same, darker = (record["metrics"]["gfid"] for record in records)
    assert same == pytest.approx(0, abs=1e-3)
    # Halved pixels: means about 64 away in each of three channels.
    assert darker == pytest.approx(3 * 64**2, rel=0.1)


def test_the_picture_shows_each_sample_above_its_neighbors(classifier, tmp_path):
    train, samples = images(30, 1), images(5, 4)
    record = measure(samples, None, images(20, 0), train, classifier)
    save_nearest(tmp_path / "nearest.png", record, samples, train)
    with Image.open(tmp_path / "nearest.png") as picture:
        assert picture.size == (5 * 8 + 4 * 2, 3 * 8 + 2 * 2)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    which = record["nearest_by_pixels"][1]
    assert torch.equal(pixels[:, :8, 10:18], samples[1])
    assert torch.equal(pixels[:, 10:18, 10:18], train[which])


def test_what_does_not_fit_is_refused(classifier):
    with pytest.raises(UserError, match=r"samples: expected 2 or more.*got 1 and 20"):
        measure(images(1, 0), None, images(20, 0), images(9, 1), classifier)
    with pytest.raises(UserError, match=r"data: expected images of the samples' size"):
        measure(images(4, 0)[:, :, :4], None, images(20, 0), images(9, 1), classifier)
