"""Classifier metrics: Fréchet distances with closed forms, and models whose worth is known."""

from __future__ import annotations

import json

import pytest
import torch

from rotvq.errors import UserError
from rotvq.evaluation.classifier import Classifier
from rotvq.evaluation.classifier_metrics import Reference, frechet_distance, measure, originals
from rotvq.evaluation.pixels import normalized
from rotvq.model import VQVAE


def corners(*scales):
    """±s_i at every corner of a box: mean 0, covariance diagonal with s_i²·n/(n − 1)."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * len(scales))
    return signs.double() * torch.tensor(scales).double()


def normal(n, f, seed):
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed)).double()


def test_equal_sets_are_at_distance_zero():
    a = normal(200, 16, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("origin", [0.0, 1e4])
def test_a_shift_adds_its_square(origin):
    a, shift = normal(200, 3, 0) + origin, torch.tensor([1.0, -2.0, 0.5])
    assert frechet_distance(a, a + shift) == pytest.approx(5.25, rel=1e-8)


def test_diagonal_covariances_by_hand():
    a, b = corners(1, 2, 3), corners(4, 2, 0.5)
    # Σ (s_a − s_b)² · 8/7 = (9 + 0 + 6.25) · 8/7
    assert frechet_distance(a, b) == pytest.approx(15.25 * 8 / 7, rel=1e-9)
    assert frechet_distance(a.float(), b.float() + 1) == pytest.approx(15.25 * 8 / 7 + 3, rel=1e-6)


def test_the_distance_is_symmetric_and_agrees_with_symmetric_roots():
    a, b = normal(50, 6, 0) @ normal(6, 6, 1), normal(70, 6, 2) + 0.3

    def root(s):
        values, vectors = torch.linalg.eigh(s)
        return vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T

    s, t = a.T.cov(), b.T.cov()
    cross = root(root(s) @ t @ root(s)).trace()
    expected = (a.mean(0) - b.mean(0)).square().sum() + s.trace() + t.trace() - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected.item(), rel=1e-9)


def test_fewer_rows_than_columns():
    a = torch.zeros(2, 40)
    a[:, 0] = torch.tensor([-1.0, 1.0])
    b = torch.zeros(2, 40)
    b[:, 1] = torch.tensor([-2.0, 2.0])
    # Orthogonal lines of variance 2 and 8: nothing in common.
    assert frechet_distance(a, b) == pytest.approx(10, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    c = normal(5, 40, 3)
    assert frechet_distance(c, c) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, torch.zeros(3, 40)) == pytest.approx(2, rel=1e-9)


@pytest.mark.parametrize("shapes", [((1, 3), (4, 3)), ((4, 3), (0, 3))])
def test_features_that_do_not_match_are_refused(shapes):
    with pytest.raises(UserError, match="features: expected"):
        frechet_distance(*(torch.zeros(shape) for shape in shapes))


class Lookup(VQVAE):
    """A stand-in for a model: an image's index is its place among the images that it knows."""

    def __init__(self, known, shown):
        super().__init__(width=2, dim=2)
        self.known, self.shown = known, shown

    def encode(self, x):
        return (x[:, None] == self.known[None]).flatten(2).all(2).int().argmax(1)[:, None, None]

    def decode(self, indices):
        return self.shown[indices.flatten()]


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(4, (4, 8))


def measured(model, classifier, images, labels, batch_size=5):
    reference = originals(classifier, images, batch_size=batch_size)
    return measure(model, classifier, reference, images, labels, batch_size=batch_size)


def test_exact_reconstructions_lose_nothing(classifier, make_images):
    images = make_images()
    x = normalized(images)
    labels = originals(classifier, images).predicted
    labels[0] = (labels[0] + 1) % 4
    metrics = measured(Lookup(x, x), classifier, images, labels)["metrics"]
    assert metrics["accuracy_original"] == metrics["accuracy_reconstruction"] == 11 / 12
    assert metrics["agreement"] == 1
    assert metrics["frechet_distance"] == pytest.approx(0, abs=1e-6)


def test_a_model_that_always_returns_one_image_is_detected(classifier, make_images):
    images = make_images()
    x = normalized(images)
    flat = torch.zeros_like(x)
    labels = torch.arange(12) % 4
    record = measured(Lookup(x, flat), classifier, images, labels)
    reference = originals(classifier, images)
    with torch.no_grad():
        classifier.eval()
        always, feature = classifier(flat[:1]).argmax().item(), classifier.features(flat[:1])
    metrics = record["metrics"]
    assert metrics["accuracy_reconstruction"] == 0.25
    assert metrics["agreement"] == (reference.predicted == always).double().mean().item()
    # A point against a Gaussian: distance of the means, and the whole variance.
    features = reference.features.double()
    expected = (features.mean(0) - feature).square().sum() + features.var(0).sum()
    assert metrics["frechet_distance"] == pytest.approx(expected.item(), rel=1e-4)


def test_a_model_is_measured_from_its_indices_and_nothing_changes(
    classifier, make_model, make_images
):
    model, images, labels = make_model("reflection"), make_images(), torch.arange(12) % 4
    model.train()
    classifier.train()
    before = [{k: t.clone() for k, t in m.state_dict().items()} for m in (model, classifier)]
    record = measured(model, classifier, images, labels)
    assert model.training and classifier.training
    for module, state in zip((model, classifier), before, strict=True):
        assert all(torch.equal(t, state[k]) for k, t in module.state_dict().items())
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["format"] == 1 and record["images"] == 12
    assert set(record["metrics"]) <= set(record["protocol"])
    assert "not FID" in record["protocol"]["frechet_distance"]
    model.eval()
    classifier.eval()
    with torch.no_grad():
        predicted = classifier(model.decode(model.encode(normalized(images)))).argmax(1)
    share = (predicted == labels).double().mean().item()
    assert record["metrics"]["accuracy_reconstruction"] == share
    whole = measured(model, classifier, images, labels, batch_size=12)["metrics"]
    assert whole == pytest.approx(record["metrics"], rel=1e-3)


def test_progress_counts_images(classifier, make_model, make_images):
    seen = []
    images = make_images()
    reference = originals(classifier, images, batch_size=5, progress=seen.append)
    labels = torch.zeros(12, dtype=torch.int64)
    measure(make_model(), classifier, reference, images, labels, batch_size=8, progress=seen.append)
    assert seen == [5, 5, 2, 8, 4]


def test_another_split_is_refused(classifier, make_model, make_images):
    images, labels = make_images(), torch.zeros(12, dtype=torch.int64)
    reference = originals(classifier, images)
    short = Reference(reference.features[:5], reference.predicted[:5])
    with pytest.raises(UserError, match="images: expected"):
        measure(make_model(), classifier, short, images, labels)
