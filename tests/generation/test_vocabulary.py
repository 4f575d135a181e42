"""Sequences: what each integer stands for, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from inspect import ismodule

import numpy as np
import pytest
from tiny_tokens import CODECS, draw_indices

import rotvq
from rotvq import generation
from rotvq.errors import UserError
from rotvq.generation.vocabulary import LONGEST, Vocabulary


def test_a_sequence_is_class_grid_and_the_indices_of_each_token_row_by_row():
    vocabulary = Vocabulary(CODECS["residual"], ((2, 2), (1, 2)), ("cat", "dog"))
    # Codes 0 to 4 and 5 to 7, classes 8 and 9, no class 10, grids 11 and 12.
    indices = np.array([[[[4, 0], [1, 2]]], [[[0, 1], [3, 0]]]])
    assert vocabulary.size == 13
    assert vocabulary.sequences(indices, [1, None]).tolist() == [
        [9, 12, 4, 5, 1, 7],
        [10, 12, 0, 6, 3, 5],
    ]


def test_maps_of_several_scales_follow_each_other_in_one_range_of_codes():
    vocabulary = Vocabulary(CODECS["multi-scale"], ((3, 2),))
    indices = np.full((1, 3, 2, 2), -1)
    indices[0, 0, 0] = [6, 1]  # scale 1 of 3: one token; scale 2: two rows, two columns
    indices[0, 0, 1, 1], indices[0, 1, :, 1] = 2, [3, 4]
    assert vocabulary.sequences(indices, [None]).tolist() == [[7, 8, 6, 1, 2, 3, 4]]


def test_indices_come_back(any_codec):
    vocabulary = Vocabulary(any_codec, ((3, 2),), ("a",))
    indices = draw_indices(any_codec, 5, (3, 2))
    sequences = vocabulary.sequences(indices, [0, None, 0, 0, -1])
    assert np.array_equal(vocabulary.indices(sequences, (3, 2)), indices)
    assert sequences.max() < vocabulary.size
    for level, codes in enumerate(vocabulary.codes):
        own = sequences[:, 2 + level :: vocabulary.indices_of_token]
        assert own.min() >= codes.start and own.max() < codes.stop


def test_a_description_is_read_back(any_codec):
    vocabulary = Vocabulary(any_codec, ((3, 2), (1, 1)), ("a", "b"))
    assert Vocabulary.read(json.loads(json.dumps(vocabulary.describe()))) == vocabulary


@pytest.mark.parametrize(("name", "number"), [("dog", 1), ("0", 0), (1, 1)])
def test_a_class_is_found_by_name_or_number(name, number):
    assert Vocabulary(CODECS["single"], ((1, 1),), ("cat", "dog")).label(name) == number


@pytest.mark.parametrize("name", ["cow", "2", -1])
def test_other_classes_are_refused(name):
    with pytest.raises(UserError, match=rf"^label: expected one of cat, dog; got {name}\.$"):
        Vocabulary(CODECS["single"], ((1, 1),), ("cat", "dog")).label(name)


def test_a_prior_without_classes_says_so():
    with pytest.raises(UserError, match="trained on tokens without labels; got 0"):
        Vocabulary(CODECS["single"], ((1, 1),)).label(0)


def test_a_grid_that_was_not_seen_is_refused():
    with pytest.raises(UserError, match=r"^grid: .*\(2x3, 1x1\); got 3x2\. Use one of these"):
        Vocabulary(CODECS["single"], ((2, 3), (1, 1))).check_grid((3, 2))


def test_images_of_too_many_indices_are_refused():
    side = int(LONGEST**0.5)
    Vocabulary(CODECS["single"], ((side, side),))
    with pytest.raises(UserError, match=r"at most 4,096 indices; got one of 8,192\."):
        Vocabulary(CODECS["residual"], ((side, side),))
    with pytest.raises(UserError, match=r"at most 65,536 classes; got 65,537\."):
        replace(Vocabulary(CODECS["single"], ((1, 1),)), classes=("a",) * 65537)


def test_a_number_is_not_taken_for_a_name():
    vocabulary = Vocabulary(CODECS["single"], ((1, 1),), ("1", "2", "3"))
    assert [vocabulary.label(2), vocabulary.label("2"), vocabulary.label("0")] == [2, 1, 0]
    with pytest.raises(UserError, match="expected one of 1, 2, 3; got 3"):
        vocabulary.label(3)


def test_numbers_are_no_names_of_classes():
    grids = ((1, 1),)
    assert Vocabulary(CODECS["single"], grids, ("0", "1")).names == ()
    assert Vocabulary(CODECS["single"], grids, ("1", "0")).names == ("1", "0")


def test_labels_beyond_the_classes_are_refused():
    vocabulary = Vocabulary(CODECS["single"], ((1, 1),), ("cat", "dog"))
    with pytest.raises(UserError, match=r"labels: expected classes below 2; got 2\."):
        vocabulary.sequences(np.zeros((3, 1, 1), np.int64), [0, None, 2])


def test_public_names_are_no_modules():
    assert not [name for name in generation.__all__ if ismodule(getattr(generation, name))]
    assert not [name for name in rotvq.__all__ if ismodule(getattr(rotvq, name))]
