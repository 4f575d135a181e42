"""From token files to sequences; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_tokens import draw_indices

from rotvq.errors import UserError
from rotvq.generation.config import TokensConfig
from rotvq.generation.data import load
from rotvq.tokens.collection import Packer
from rotvq.tokens.file import load_tokens, save_tokens
from rotvq.tokens.model_codec import codec


def test_every_image_becomes_a_sequence_and_a_tenth_is_held_out(write_tokens):
    path = write_tokens(grids=((2, 3), (1, 2), (2, 3)))
    data, tokens = load(TokensConfig(str(path))), load_tokens(path)
    vocabulary = data.vocabulary
    assert vocabulary.grids == ((2, 3), (1, 2)) and vocabulary.classes == ("0", "1", "2")
    assert data.train.shape == (36, 8) and data.test.shape == (4, 8)
    assert "4 of 40 images are held out" in data.notes[0]
    found = {"train": [], "test": []}
    for number, indices in enumerate(tokens):
        expected = vocabulary.sequences(indices[None], [tokens.labels[number]])[0].tolist()
        expected += [-1] * (8 - len(expected))
        for name, numbers in found.items():
            if expected in getattr(data, name).tolist():
                numbers.append(number)
    assert [len(found["train"]), len(found["test"])] == [36, 4]
    assert sorted(found["train"] + found["test"]) == [*range(40)]
    assert np.array_equal(load(TokensConfig(str(path))).test, data.test)


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_what_is_held_out_does_not_depend_on_the_order_of_classes(tmp_path, tokenizer, classes):
    """Samples have the classes in turn, which evenly spaced images would not show."""
    packer = Packer(codec(tokenizer))
    labels = [i % classes for i in range(200)]
    packer.add(draw_indices(packer.codec, 200, (1, 1), 0), (2, 2), labels=labels)
    save_tokens(packer.tokens(), tmp_path / "turns.npz")
    for limit in (None, 100):
        data = load(TokensConfig(str(tmp_path / "turns.npz"), None, limit))
        assert len(data.train) == limit or len(data.test) == 20
        for some in (data.train, data.test):
            assert len(set(some[:, 0].tolist())) > classes // 2


@pytest.fixture
def held_out(tmp_path, tokenizer):
    """The data of images with the grids and labels that functions of their numbers give."""

    def make(n, grid_of=lambda number: (1, 1), label_of=lambda number: 0):
        packer, draw = Packer(codec(tokenizer)), np.random.default_rng(0)
        for number in range(n):
            grid = grid_of(number)
            indices = draw.integers(16, size=(1, *grid))
            packer.add(indices, (2 * grid[0], 2 * grid[1]), labels=[label_of(number)])
        save_tokens(packer.tokens(), tmp_path / "tokens.npz")
        return load(TokensConfig(str(tmp_path / "tokens.npz")))

    return make


def test_the_only_image_of_a_grid_or_class_is_not_held_out(held_out):
    for alone in range(12):
        data = held_out(12, lambda number, alone=alone: (1, 2) if number == alone else (1, 1))
        assert len(data.test) == 1 and len(data.vocabulary.grids) == 2
        data = held_out(12, label_of=lambda number, alone=alone: int(number == alone))
        assert len(data.test) == 1 and len(set(data.train[:, 0].tolist())) == 2


def test_classes_of_one_image_are_held_out_where_there_are_no_others(held_out):
    data = held_out(30, label_of=lambda number: number)
    assert len(data.test) == 3 and len(data.vocabulary.classes) == 30
    with pytest.raises(
        UserError, match=r"share a grid.*got 5, each of another grid.*--tokens\.test"
    ):
        held_out(5, lambda number: (1, number + 1))
    for few in (0, 1):
        with pytest.raises(UserError, match="expected images to train and to test on"):
            held_out(few)


def test_images_are_drawn_and_test_tokens_come_from_their_own_file(write_tokens):
    whole = load(TokensConfig(str(write_tokens()), str(write_tokens("test.npz", 10, seed=1))))
    part = load(TokensConfig(str(write_tokens()), str(write_tokens("test.npz", 10, seed=1)), 4, 2))
    assert len(part.train) == 4 and len(part.test) == 2
    for some, of in ((part.train, whole.train), (part.test, whole.test)):
        places = [of.tolist().index(row) for row in some.tolist()]
        assert places == sorted(set(places))
    assert part.notes == ()
    assert part.splits["train"]["fingerprint"] != whole.splits["train"]["fingerprint"]


def test_tokens_without_labels_make_an_unconditional_prior(write_tokens):
    data = load(TokensConfig(str(write_tokens(labels=False))))
    assert data.vocabulary.classes == ()
    assert set(data.train[:, 0]) == {data.vocabulary.no_class}
    assert "no labels: the prior is unconditional" in data.notes[-1]


def test_residual_tokens_are_interleaved(write_tokens, residual_tokenizer):
    path = write_tokens(model=residual_tokenizer)
    data, tokens = load(TokensConfig(str(path))), load_tokens(path)
    first = data.train[0, 2:].reshape(2, 3, 2) - [0, 16]
    assert np.array_equal(first, tokens[0])


def test_classes_can_be_named(write_tokens):
    data = load(TokensConfig(str(write_tokens()), classes="cat, dog,ox"))
    assert data.vocabulary.classes == ("cat", "dog", "ox")
    data = load(TokensConfig(str(write_tokens(names=("ape", "bee", "cow"))), classes="cat,dog,ox"))
    assert data.vocabulary.classes == ("cat", "dog", "ox")


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("ape", "bee", "cow"), ("ape", "bee", "cow")),
        (("ape", "bee", "cow", "doe"), ("ape", "bee", "cow", "doe")),
        (("ape", "bee"), ("0", "1", "2")),
    ],
)
def test_names_of_the_token_file_are_used_if_there_are_enough(write_tokens, names, classes):
    assert load(TokensConfig(str(write_tokens(names=names)))).vocabulary.classes == classes


@pytest.mark.parametrize("names", ["cat,dog", "cat,dog,dog", "cat,,ox"])
def test_names_that_do_not_fit_are_refused(write_tokens, names):
    with pytest.raises(UserError, match=r"tokens\.classes: expected 3 different names"):
        load(TokensConfig(str(write_tokens()), classes=names))


def test_test_tokens_must_fit(write_tokens, residual_tokenizer):
    train = str(write_tokens())
    for words, other in (
        (
            r"tokens\.test: expected tokens of model .* with 1 codebook, .* 2 codebooks",
            {"model": residual_tokenizer},
        ),
        (r"grid: .*\(2x3\); got 3x2", {"grids": ((3, 2),)}),
        (r"tokens\.test: expected labels below 3.*got 3", {"classes": 4}),
    ):
        with pytest.raises(UserError, match=words) as error:
            load(TokensConfig(train, str(write_tokens("test.npz", **other))))
        assert "\n" not in str(error.value)


def test_test_tokens_must_have_the_same_classes(write_tokens):
    train = str(write_tokens(names=("ape", "bee", "cow")))
    for names, said in (
        (("ape", "cow", "doe"), r"got class 1 cow instead of bee\. Encode both"),
        (("ape", "bee"), "got class 2 none instead of cow"),
        (("ape", "bee", "cow", "doe"), "got class 3 doe instead of none"),
    ):
        with pytest.raises(UserError, match=said):
            load(TokensConfig(train, str(write_tokens("test.npz", names=names))))
    for names in (("ape", "bee", "cow"), ()):
        data = load(TokensConfig(train, str(write_tokens("test.npz", names=names))))
        assert data.vocabulary.classes == ("ape", "bee", "cow")


def test_labels_that_no_prior_can_use_are_ignored_or_refused(write_tokens):
    train, labeled = str(write_tokens(labels=False)), str(write_tokens("test.npz"))
    data = load(TokensConfig(train, labeled))
    assert data.vocabulary.classes == ()
    assert set(data.test[:, 0]) == {data.vocabulary.no_class}
    with pytest.raises(UserError, match=r"tokens\.classes: expected no names for tokens without"):
        load(TokensConfig(train, labeled, classes="cat,dog"))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"tokens\.train: expected a token file"):
        load(TokensConfig())
    with pytest.raises(UserError, match=r"absent\.npz"):
        load(TokensConfig(str(tmp_path / "absent.npz")))
