"""The classifier: it learns, reproducibly, and comes back from its files as it was."""

from __future__ import annotations

import json
import os

import pytest
import torch

from rotvq.errors import UserError
from rotvq.evaluation.classifier import (
    RECORD,
    WEIGHTS,
    Classifier,
    _cycle,
    accuracy,
    augmented,
    has_classes,
    load_classifier,
    save_classifier,
    train_classifier,
)
from rotvq.evaluation.pixels import normalized

WIDTHS = (4, 8)


def toy(n=96, seed=0):
    """Noise with a tint: the class is the brightest channel."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    images = torch.randint(0, 100, (n, 3, 8, 8), generator=generator)
    images[torch.arange(n), labels] += 120
    return images.byte(), labels


def trained(seed=0, **changes):
    return train_classifier(
        *toy(), seed=seed, **{"epochs": 4, "widths": WIDTHS, "batch_size": 16, **changes}
    )


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_classifier_learns_an_easy_task(precision):
    classifier = trained(epochs=8, precision=precision)
    assert accuracy(classifier, *toy(90, seed=1)) > 0.95
    assert not classifier.training
    assert {p.dtype for p in classifier.parameters()} == {torch.float32}


def test_the_seed_decides_every_bit():
    state = torch.get_rng_state()
    first = trained()
    torch.manual_seed(99)
    assert same(first, trained())
    assert not same(first, trained(seed=1))
    torch.set_rng_state(state)
    trained()
    assert torch.equal(torch.get_rng_state(), state), "the global generator stays"


def test_progress_counts_whole_batches():
    seen = []
    trained(epochs=2, batch_size=36, progress=seen.append)
    assert seen == [36, 36, 36, 36]


def test_features_lead_to_logits_in_float32():
    classifier = Classifier(5, WIDTHS).eval()
    x = torch.randn(2, 3, 9, 13)
    with torch.autocast("cpu", torch.bfloat16):
        features = classifier.features(x)
    assert features.shape == (2, 8) and features.dtype == torch.float32
    expected = classifier.features(x) @ classifier.head.weight.T + classifier.head.bias
    torch.testing.assert_close(classifier(x), expected)


def test_accuracy_changes_nothing_and_ignores_the_batch_size():
    classifier = trained().train()
    before = {name: t.clone() for name, t in classifier.state_dict().items()}
    images, labels = toy(20, seed=2)
    assert accuracy(classifier, images, labels, 20) == accuracy(classifier, images, labels, 3)
    assert classifier.training
    assert all(torch.equal(t, before[name]) for name, t in classifier.state_dict().items())


@pytest.mark.parametrize("size", [(9, 12), (3, 1)])
def test_augmentation_is_shift_and_flip(size):
    h, w = size
    images = torch.arange(64 * 2 * h * w).remainder(251).byte().reshape(64, 2, h, w)
    result = augmented(images, torch.Generator().manual_seed(0))
    assert result.shape == images.shape and result.dtype == torch.uint8
    up, left = min(4, h - 1), min(4, w - 1)
    padded = torch.nn.functional.pad(images.float(), (left, left, up, up), mode="reflect").byte()
    offsets = [(i, j) for i in range(2 * up + 1) for j in range(2 * left + 1)]
    seen, flips = set(), set()
    for image, wide in zip(result, padded, strict=True):
        crops = {(i, j): wide[:, i : i + h, j : j + w] for i, j in offsets}
        straight = [at for at, crop in crops.items() if torch.equal(image, crop)]
        flipped = [at for at, crop in crops.items() if torch.equal(image.flip(2), crop)]
        assert straight or flipped
        seen |= {*straight, *flipped}
        flips.add(not straight)
    assert {i for i, _ in seen} == {*range(2 * up + 1)}
    assert {j for _, j in seen} == {*range(2 * left + 1)}
    assert flips == ({False, True} if w > 1 else {False})


def test_the_learning_rate_rises_once_and_falls_to_zero():
    rates = [_cycle(step, 400) for step in range(401)]
    top = rates.index(max(rates))
    assert 95 <= top <= 105 and max(rates) == pytest.approx(1, abs=0.01)
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[0] < 0.01 and 0 < rates[399] < 0.01 and rates[400] == 0


def test_a_loaded_classifier_gives_the_same_logits(tmp_path):
    classifier = trained()
    save_classifier(tmp_path, classifier, {"seed": 0, "epochs": 4, "accuracy": 0.9, "data": "ab"})
    loaded = load_classifier(tmp_path)
    x = normalized(toy()[0])
    assert not loaded.training
    assert torch.equal(loaded(x), classifier(x))
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["classes"] == 3 and record["widths"] == [4, 8]
    assert record["seed"] == 0 and record["data"] == "ab"


@pytest.mark.parametrize("name", [WEIGHTS, RECORD])
@pytest.mark.parametrize("damage", ["missing", "cut", "other", "bit"])
def test_damaged_files_are_reported(tmp_path, name, damage):
    save_classifier(tmp_path, Classifier(3, WIDTHS), {"seed": 0})
    path = tmp_path / name
    content = path.read_bytes()
    bits = content[:-1] + bytes([content[-1] ^ 128])
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-9], "other": b"[1]", "bit": bits}[damage])
    with pytest.raises(UserError, match="missing" if damage == "missing" else "damaged"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [4, 9]},
        {"classes": 4},
        {"format": 2},
        {"classes": 2**40},
        {"widths": [2**30] * 3},
        {"widths": "abc"},
        {"classes": None},
    ],
)
def test_another_architecture_or_version_is_refused(tmp_path, change):
    save_classifier(tmp_path, Classifier(3, WIDTHS), {})
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, **change}))
    with pytest.raises(UserError, match="of another"):
        load_classifier(tmp_path)


def test_a_pipe_does_not_block(tmp_path):
    save_classifier(tmp_path, Classifier(3, WIDTHS), {})
    (tmp_path / WEIGHTS).unlink()
    os.mkfifo(tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="damaged or of another"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Classifier(0),
        lambda: Classifier(3, (4, 0)),
        lambda: Classifier(3, WIDTHS).features(torch.zeros(1, 3, 3, 8)),
        lambda: trained(epochs=0),
        lambda: trained(batch_size=1),
        lambda: train_classifier(toy()[0][:1], toy()[1][:1], seed=0),
        lambda: train_classifier(toy()[0], toy()[1] - 1, seed=0),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(UserError, match="expected"):
        call()


@pytest.mark.parametrize(
    ("own", "number", "names", "same"),
    [
        ([], 3, (), True),
        ([], 3, ("a", "b", "c"), True),
        (["a", "b", "c"], 3, (), True),
        (["a", "b", "c"], 3, ("a", "b", "c"), True),
        (["a", "b", "c"], 3, ("a", "c", "b"), False),
        ([], 2, (), False),
        (["a", "b", "c"], 4, (), False),
    ],
)
def test_classes_are_those_of_labels_with_the_same_names_or_as_many(
    tmp_path, own, number, names, same
):
    save_classifier(tmp_path, Classifier(3, WIDTHS), {"class_names": own})
    assert has_classes(tmp_path, number, names) == same
