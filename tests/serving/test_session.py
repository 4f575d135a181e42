"""What the page receives, compared with the model itself."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from rotvq.errors import UserError
from rotvq.evaluation.pixels import to_uint8
from rotvq.model import VQVAE
from rotvq.quantization import (
    FiniteScalarQuantizer,
    GroupedQuantizer,
    MultiScaleQuantizer,
    VectorQuantizer,
)
from rotvq.serving import palette
from rotvq.serving.pictures import SIDE
from rotvq.serving.session import Session, Stopped
from rotvq.tokens.coding import decode, encode
from rotvq.tokens.file import load_tokens


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


def test_a_model_with_several_scales_is_refused():
    quantizer = MultiScaleQuantizer(VectorQuantizer(4, 8, channel_dim=1), (1, 2))
    with pytest.raises(
        UserError, match=r"a single resolution, .* got one with the scales \(1, 2\)"
    ):
        Session(VQVAE(width=8, dim=8, depth=1, quantizer=quantizer))


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


@pytest.mark.parametrize("size, reduced", [((600, 300), (SIDE, 128)), ((10, 900), (4, SIDE))])
def test_large_images_are_reduced(session, size, reduced):
    answer = session.encode(picture(*size))
    assert (answer["height"], answer["width"]) == reduced


def test_a_code_is_drawn_as_the_patch_of_the_central_token(session, model):
    tiles = pixels(session.codes)
    assert tiles.shape == (24, 20, 3)  # 30 codes in 6 x 5 tiles of 4 pixels
    with torch.no_grad():
        grid = to_uint8(model.decode(torch.full((1, 3, 3), 17)))[0].permute(1, 2, 0).numpy()
    row, column = divmod(17, 5)
    found = tiles[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].astype(int)
    assert np.abs(found - grid[4:8, 4:8]).max() <= 1


def test_the_model_in_numbers(session):
    about = session.about
    assert (about["codebook_size"], about["bits"], about["stride"], about["dim"]) == (30, 5, 4, 8)
    places = np.array(about["places"])
    assert places.shape == (30, 2) and places.min() == 0 and places.max() == 1
    assert about["use"][-1] == 1 and about["use"][0] == 0
    assert sorted(about["order"]) == list(range(30)) and about["columns"] == 5
    assert about["name"] == "model" and about["prior"] is None


def test_the_vivid_code_has_the_most_color(session, model):
    colors = palette.patches(model).float().mean((2, 3))
    chroma = (colors - colors.mean(1, keepdim=True)).norm(dim=1)
    assert session.about["vivid"] == chroma.argmax()


def test_effort_finds_better_tokens_as_encode_does(session, model):
    content = picture(18, 25)
    tokens = encode(model, [("", pixels(content).transpose(2, 0, 1))], effort=2)
    found = session.encode(content, 2)["indices"]
    assert found == tokens[0].flatten().tolist() != session.encode(content)["indices"]


def test_a_search_stops_when_nobody_waits(session):
    def step(share):
        raise Stopped("nobody waits")

    with pytest.raises(Stopped, match="nobody waits"):
        session.encode(picture(16, 16), 9, step)


def test_a_search_tells_how_far_it_is(session):
    shares = []
    session.encode(picture(16, 16), 4, shares.append)
    assert len(shares) >= 10 and 0 < shares[0] <= 0.1 and shares[-1] == 1
    assert shares == sorted(shares)


@pytest.mark.parametrize("effort", [-1, 10])
def test_an_effort_that_does_not_exist_is_refused(session, effort):
    with pytest.raises(UserError, match="effort: expected an integer from 0 to 9"):
        session.encode(picture(16, 16), effort)


def test_saved_tokens_are_a_token_file(session, model, tmp_path):
    answer = session.encode(picture(18, 25))
    path = tmp_path / "tokens.npz"
    path.write_bytes(session.token_file(18, 25, answer["indices"]))
    tokens = load_tokens(path)
    assert tokens.sizes == [(18, 25)] and tokens[0].flatten().tolist() == answer["indices"]
    ((_, decoded),) = decode(model, tokens)
    expected = pixels(session.decode(18, 25, answer["indices"]))
    assert np.array_equal(decoded, expected.transpose(2, 0, 1))


def test_without_a_prior_there_are_no_mean_bits(session):
    with pytest.raises(UserError, match=r"expected a prior; .* --prior RUN"):
        session.bits(8, 8, [0] * 4)


def test_a_model_with_too_many_codes_is_refused(model, monkeypatch):
    monkeypatch.setattr("rotvq.serving.session.MOST_CODES", 29)
    with pytest.raises(UserError, match=r"at most 29 codes, .* got 30"):
        Session(model)


def test_gray_and_finite_scalar():
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer([5], channel_dim=1)
    session = Session(VQVAE(channels=1, width=8, dim=1, depth=1, quantizer=quantizer))
    assert len(session.about["places"]) == 5 and set(session.about["use"]) == {1}
    answer = session.encode(picture(8, 8))
    found = pixels(session.decode(8, 8, answer["indices"]))
    assert found.shape == (8, 8)
    assert pixels(session.codes).shape == (12, 8)  # the last of 3 x 2 tiles is empty


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
