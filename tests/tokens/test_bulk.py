"""Encoding to shards: the same tokens as in one go, whatever was done before and by whom."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from rotvq.data_processing.pictures import open_pictures
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.skipped import read
from rotvq.model import VQVAE
from rotvq.tokens.bulk import Totals, encode_shards, pending
from rotvq.tokens.coding import encode
from rotvq.tokens.collection import Picture
from rotvq.tokens.file import load_tokens
from rotvq.tokens.model_codec import codec
from rotvq.tokens.shards import Shards, prepare, recipe

DAMAGED = (3, 4, 17)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VQVAE(width=8, dim=8, depth=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """22 images of two sizes, three of them damaged, and a file that is no image."""
    place = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number in range(22):
        size = (12, 8) if number % 8 == 6 else (8, 8)
        Image.fromarray(draw.integers(0, 256, (*size, 3), np.uint8)).save(
            place / f"{number:02}.png"
        )
        if number in DAMAGED:
            (place / f"{number:02}.png").write_bytes(b"")
    (place / "notes.txt").touch()
    return place


def prepared(place, model, folder, shard_size=6, **options):
    reader = open_pictures([str(folder)], None, Target())
    made = recipe(codec(model), 0, reader.count, "feed", shard_size, ".safetensors")
    shards = Shards(place, made)
    prepare(shards, overwrite=False)
    totals = Totals()
    defaults = {"batch_size": 4, "workers": 0, "numbers": pending(shards, 0, 1)}
    encode_shards(model, reader, Target(), shards, totals=totals, **defaults | options)
    return shards, totals


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_hold_the_tokens_of_their_images(tmp_path, model, folder):
    seen = []
    shards, totals = prepared(tmp_path, model, folder, progress=seen.append)
    whole = [n for n in range(22) if n not in DAMAGED]
    assert sum(seen) == totals.images == len(whole)
    for number in range(4):
        tokens = load_tokens(shards.path(number))
        here = [n for n in whole if n in shards.rows(number)]
        assert tokens.names == [f"{n:02}.png" for n in here]
        pixels = [np.asarray(Image.open(folder / name)).transpose(2, 0, 1) for name in tokens.names]
        expected = encode(model, [Picture("", each) for each in pixels], 4)
        assert tokens.packed == expected.packed and tokens.sizes == expected.sizes
    assert [[each.path for each in read(shards.skipped(n))] for n in (0, 2)] == [
        ["notes.txt", "03.png", "04.png"],
        ["17.png"],
    ]
    assert not shards.skipped(1).exists() and not shards.skipped(3).exists()
    bits = sum(tokens.numel() for tokens in map(torch.as_tensor, load_tokens(shards.path(0)))) * 10
    assert 0 < bits < totals.bits and totals.rate == totals.bits / totals.pixels


def test_damaged_images_do_not_change_other_shards(tmp_path, model, folder):
    before = contents(prepared(tmp_path / "a", model, folder)[0].folder)
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    (folder / "17.png").write_bytes(stream.getvalue())
    try:
        after = contents(prepared(tmp_path / "b", model, folder)[0].folder)
    finally:
        (folder / "17.png").write_bytes(b"")
    same = {name for name in before if before[name] == after.get(name)}
    assert {*before} - same == {
        f"tokens-00002-of-00004{suffix}" for suffix in (".safetensors", ".skipped.tsv")
    }


def test_processes_and_interrupted_runs_make_the_same_bytes(tmp_path, model, folder):
    whole = contents(prepared(tmp_path / "a", model, folder)[0].folder)
    shards, _ = prepared(tmp_path / "b", model, folder, numbers=[1])
    time = shards.path(1).stat().st_mtime_ns
    assert [pending(shards, process, 2) for process in (0, 1)] == [[0, 2], [3]]
    prepared(tmp_path / "b", model, folder, numbers=pending(shards, 1, 2), workers=1)
    prepared(tmp_path / "b", model, folder, numbers=pending(shards, 0, 2))
    assert contents(tmp_path / "b") == whole and pending(shards, 0, 1) == []
    assert shards.path(1).stat().st_mtime_ns == time


def test_a_stop_keeps_the_shards_that_are_done(tmp_path, model, folder):
    def stop(images):
        raise KeyboardInterrupt

    calls = iter([None] * 4)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, model, folder, progress=lambda n: next(calls, 0) is None or stop(n))
    assert (tmp_path / "tokens-00001-of-00004.safetensors").exists()
    assert not (tmp_path / "tokens-00003-of-00004.safetensors").exists()
    assert not [*tmp_path.glob(".rotvq*")]


def test_effort_lowers_the_error(tmp_path, model, folder):
    quick, slow = (
        prepared(tmp_path / str(effort), model, folder, effort=effort)[0] for effort in (0, 2)
    )
    pixels = np.asarray(Image.open(folder / "00.png")).transpose(2, 0, 1) / 127.5 - 1

    def error(shards):
        indices = torch.from_numpy(load_tokens(shards.path(0))[0][None])
        return np.square(model.eval().decode(indices)[0].detach().numpy() - pixels).mean()

    assert error(slow) < error(quick)
