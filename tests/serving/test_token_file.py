"""Token files that the page opens again."""

from dataclasses import replace

import numpy as np
import pytest

from rotvq.errors import UserError
from rotvq.serving.session import Session
from rotvq.serving.token_file import opened
from rotvq.tokens.collection import Packer
from rotvq.tokens.file import from_npz, to_npz
from rotvq.tokens.model_codec import codec


def packed(of, *sizes):
    packer = Packer(of)
    for height, width in sizes:
        rows, columns = of.grid((height, width))
        packer.add(np.arange(rows * columns).reshape(1, rows, columns) % 30, (height, width))
    return to_npz(packer.tokens())


def test_the_first_picture_of_a_file_is_opened_with_its_model(model):
    other = codec(model)
    strange = Session(model)
    strange.codec = replace(other, model="f" * 16)
    answer = opened(packed(other, (10, 17), (4, 4)), [strange, Session(model)])
    assert answer.pop("indices") == list(range(15))
    assert answer == {
        "number": 1, "pictures": 2, "height": 10, "width": 17, "rows": 3, "columns": 5,
    }  # fmt: skip


def test_what_was_saved_is_what_is_opened(model):
    session = Session(model)
    indices = [7, 0, 29, 3, 3, 12]
    answer = opened(session.token_file(8, 11, indices), [session])
    assert (answer["indices"], answer["height"], answer["width"]) == (indices, 8, 11)
    assert from_npz(session.token_file(8, 11, indices))[0].tolist() == [[7, 0, 29], [3, 3, 12]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda own: b"PK\3\4", "expected a token file written by rotvq encode"),
        (lambda own: packed(own, (8, 8))[:-9], "expected a token file written by rotvq encode"),
        (lambda own: packed(own), "expected the tokens of a picture; the file holds none"),
        (lambda own: packed(own, (300, 4)), "at most 256 pixels a side; got 300x4. To see it, use"),
        (
            lambda own: packed(replace(own, model="0" * 16), (8, 8)),
            "expected tokens of a model on this page; got tokens of the model 0000000000000000",
        ),
    ],
)
def test_another_file_is_refused_in_one_line(model, content, message):
    with pytest.raises(UserError, match=message) as refused:
        opened(content(codec(model)), [Session(model)])
    assert "\n" not in str(refused.value)
