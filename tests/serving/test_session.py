"""What the page receives, compared with the model itself."""

import time
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from rotvq.errors import UserError
from rotvq.evaluation.pixels import to_uint8
from rotvq.model import VQVAE
from rotvq.quantization import FiniteScalarQuantizer, GroupedQuantizer
from rotvq.serving.session import SIDE, Session, sample
from rotvq.tokens.coding import decode, encode


def pixels(content):
    with Image.open(BytesIO(content)) as opened:
        return np.asarray(opened)


def picture(height, width, kind="PNG", mode="RGB"):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    content = BytesIO()
    Image.fromarray(noise).convert(mode).save(content, kind)
    return content.getvalue()


@pytest.fixture
def session(model):
    return Session(model)


def test_a_model_with_several_codebooks_has_no_palette():
    parts = [FiniteScalarQuantizer([4, 4], channel_dim=1) for _ in range(4)]
    model = VQVAE(width=8, dim=8, depth=1, quantizer=GroupedQuantizer(parts))
    with pytest.raises(
        UserError, match=r"expected a model with a single codebook, .* got one with 4"
    ):
        Session(model)


def test_an_image_is_encoded_and_decoded(session, model):
    content = picture(18, 25)
    answer = session.encode(content)
    tokens = encode(model, [("", pixels(content).transpose(2, 0, 1))])
    ((_, indices),) = tokens.batches(1)
    assert answer["indices"] == indices.flatten().tolist()
    assert (answer["rows"], answer["columns"]) == (5, 7)
    ((_, expected),) = decode(model, tokens)
    found = pixels(session.decode(answer["height"], answer["width"], answer["indices"]))
    assert np.array_equal(found.transpose(2, 0, 1), expected)


@pytest.mark.parametrize("size, reduced", [((600, 300), (SIDE, 128)), ((10, 900), (3, SIDE))])
def test_large_images_are_reduced(session, size, reduced):
    answer = session.encode(picture(*size))
    assert (answer["height"], answer["width"]) == reduced


@pytest.mark.parametrize(
    "mode, kind", [("L", "PNG"), ("RGBA", "PNG"), ("RGB", "JPEG"), ("P", "GIF")]
)
def test_image_formats_and_modes(session, mode, kind):
    assert session.encode(picture(16, 16, kind, mode))["rows"] == 4


def test_a_code_is_drawn_as_the_patch_of_the_central_token(session, model):
    tiles = pixels(session.codes)
    assert tiles.shape == (24, 24, 3)  # 30 codes in 6 x 6 tiles of 4 pixels
    with torch.no_grad():
        grid = to_uint8(model.decode(torch.full((1, 3, 3), 17)))[0].permute(1, 2, 0).numpy()
    row, column = divmod(17, 6)
    found = tiles[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].astype(int)
    assert np.abs(found - grid[4:8, 4:8]).max() <= 1
    assert (tiles[20:, 4:] == 0).all()


def test_the_model_in_numbers(session):
    about = session.about
    assert (about["codebook_size"], about["bits"], about["stride"], about["dim"]) == (30, 5, 4, 8)
    places = np.array(about["places"])
    assert places.shape == (30, 2) and places.min() == 0 and places.max() == 1
    assert about["use"][-1] == 1 and about["use"][0] == 0


def test_grey_and_finite_scalar():
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer([5], channel_dim=1)
    session = Session(VQVAE(channels=1, width=8, dim=1, depth=1, quantizer=quantizer))
    assert len(session.about["places"]) == 5 and set(session.about["use"]) == {1}
    answer = session.encode(picture(8, 8))
    found = pixels(session.decode(8, 8, answer["indices"]))
    assert found.shape == (8, 8)
    assert pixels(session.codes).shape == (12, 12)


@pytest.mark.parametrize("content", [b"", b"hello", picture(16, 16)[:60]])
def test_a_file_that_is_not_an_image_is_refused(session, content):
    with pytest.raises(UserError, match="expected an image"):
        session.encode(content)


def test_a_jpeg_of_empty_scans_is_refused_before_it_is_decoded(session):
    content = BytesIO()
    Image.new("RGB", (2000, 2000)).save(content, "JPEG", progressive=True)
    jpeg = content.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    bomb = jpeg[:-2] + scan * 6000 + b"\xff\xd9"  # 0.1 MB that take most of a minute
    began = time.monotonic()
    with pytest.raises(UserError, match="too many scans"):
        session.encode(bomb)
    assert time.monotonic() - began < 5


def test_an_image_with_too_many_pixels_is_refused(session, monkeypatch):
    monkeypatch.setattr("rotvq.serving.session.LARGEST", 100)
    with pytest.raises(UserError, match="at most 100 pixels; got 20x10"):
        session.encode(picture(10, 20))


@pytest.mark.parametrize(
    "height, width, indices, message",
    [
        (8, 8, [0] * 3, "expected 4 indices; got 3"),
        (8, 8, [0, 0, 0, 30], "from 0 to 29"),
        (8, 8, [0, 0, 0, -1], "from 0 to 29"),
        (0, 8, [], "1 to 256 pixels a side; got 0x8"),
        (8, 1000, [0] * 500, "1 to 256 pixels a side"),
    ],
)
def test_invalid_tokens_are_refused(session, height, width, indices, message):
    with pytest.raises(UserError, match=message):
        session.decode(height, width, indices)


def test_the_sample_is_a_photograph():
    found = pixels(sample())
    assert found.shape == (128, 192, 3) and found.std() > 30
