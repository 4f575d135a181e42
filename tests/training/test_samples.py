"""What an epoch trains on, and that runs on crops go on bit for bit."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from rotvq.data_processing import ImageSplit
from rotvq.data_processing.crops import crop
from rotvq.errors import UserError
from rotvq.training.interrupt import Stopped
from rotvq.training.samples import Samples


def split_of(shapes, seed=0):
    """Pictures of these heights and widths, with 8x8 images beside them."""
    random = np.random.default_rng(seed)
    pictures = tuple(random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in shapes)
    images = np.stack([picture[:8, :8].transpose(2, 0, 1) for picture in pictures])
    return ImageSplit(np.ascontiguousarray(images), None, pictures)


def samples_of(split, batch_size=4, seed=0, flip=False):
    return Samples(torch.from_numpy(split.images), split, batch_size, seed, flip)


def test_enough_images_of_the_size_are_themselves():
    split = replace(split_of([(8, 8)] * 5), pictures=None)
    samples = samples_of(split)
    assert (len(samples), samples.note, samples.record) == (5, None, {})
    chosen = torch.tensor([3, 0])
    for epoch in (0, 1):
        assert torch.equal(samples.take(chosen, epoch), torch.from_numpy(split.images)[chosen])


def test_too_few_images_are_repeated_until_they_fill_a_batch():
    split = replace(split_of([(8, 8)] * 3), pictures=None)
    samples = samples_of(split, batch_size=7)
    assert len(samples) == 9
    taken = samples.take(torch.arange(9), 0).numpy()
    assert np.array_equal(taken, np.concatenate([split.images] * 3))


def test_crops_of_each_picture_depend_on_seed_epoch_and_number():
    split = split_of([(16, 24), (40, 16)])
    samples = samples_of(split)
    assert len(samples) == 2 * ((16 * 24 + 40 * 16) // 2 // 64)
    numbers = torch.tensor([5, 0, 3])
    taken = samples.take(numbers, 7)
    for number, found in zip(numbers.tolist(), taken.numpy(), strict=True):
        picture = split.pictures[number % 2]
        assert np.array_equal(found, crop(picture, (8, 8), (0, 7, number)))
    assert torch.equal(samples.take(numbers[1:], 7), taken[1:]), "alone or in a batch"
    for other in (samples.take(numbers, 8), samples_of(split, seed=1).take(numbers, 7)):
        assert not torch.equal(other, taken)


@pytest.mark.parametrize("keep", [None, "pictures"])
def test_half_of_the_samples_are_flipped_and_others_in_each_epoch(keep):
    split = split_of([(8, 8)] * 100)
    split = split if keep else replace(split, pictures=None)
    upright, samples = samples_of(split), samples_of(split, flip=True)
    numbers = torch.arange(100).flip(0)
    flipped = []
    for epoch in (0, 1):
        plain, taken = upright.take(numbers, epoch), samples.take(numbers, epoch)
        same = (taken == plain).flatten(1).all(1)
        mirrored = (taken == plain.flip(3)).flatten(1).all(1)
        assert torch.equal(same, ~mirrored)
        assert 30 < mirrored.sum() < 70
        assert torch.equal(samples.take(numbers[90:], epoch), taken[90:]), "alone or in a batch"
        flipped.append(mirrored)
    assert 30 < (flipped[0] != flipped[1]).sum() < 70


@pytest.fixture
def photographs(make_data):
    """Images of larger pictures to train on, and others to test on."""
    return replace(make_data(), train=split_of([(16, 24), (40, 16), (8, 8), (20, 20)]))


def test_a_run_on_crops_notes_them_and_resumes_bit_for_bit(
    photographs, tiny, begin, resumed, outcome, tmp_path, callback
):
    config = tiny(data={"crops": "random", "random_flip": True}, training={"epochs": 3})
    begin(config, photographs, tmp_path / "whole").run()
    cut = begin(config, photographs, tmp_path / "cut")
    with pytest.raises(Stopped, match="everything is saved"):
        cut.run([callback(on_epoch_end=lambda record: signal.raise_signal(signal.SIGINT))])
    resumed(config, photographs, tmp_path / "cut").run()
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    data = json.loads((tmp_path / "whole/run.json").read_text())["data"]
    assert data["notes"] == ["Each epoch takes 5 random 8x8 crops of each picture."]
    assert data["crops"]["images"] == 20


def test_other_pictures_around_the_same_centers_are_refused(
    photographs, tiny, begin, resumed, tmp_path
):
    config = tiny(data={"crops": "random"}, training={"epochs": 1})
    begin(config, photographs, tmp_path / "run").run()
    pictures = [picture.copy() for picture in photographs.train.pictures]
    pictures[1][-1, -1, 0] ^= 1
    other = replace(photographs, train=replace(photographs.train, pictures=tuple(pictures)))
    with pytest.raises(UserError, match="expected the run's own crops images"):
        resumed(config, other, tmp_path / "run")
