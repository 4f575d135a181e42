"""The folder of shards: its index, what counts as done, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rotvq.errors import UserError
from rotvq.tokens import shards as module
from rotvq.tokens.collection import Codec, Packer
from rotvq.tokens.file import KINDS, save_tokens
from rotvq.tokens.shards import INDEX, Shards, finished, prepare, recipe

CODEC = Codec("0123456789abcdef", (1000,), 4, 3)


def shards(folder, suffix=".safetensors", **changes):
    parts = {"codec": CODEC, "effort": 0, "images": 25, "source": "feed", "shard_size": 10}
    return Shards(folder, recipe(**parts | {"suffix": suffix} | changes))


def tokens(n):
    packer = Packer(CODEC)
    packer.add(np.zeros((n, 2, 2), np.int64), (8, 8), [f"{i}.png" for i in range(n)])
    return packer.tokens()


def fill(some):
    for number in range(len(some)):
        save_tokens(tokens(len(some.rows(number))), some.path(number), recipe=some.id)


def test_shards_hold_consecutive_images():
    some = shards(Path("tokens"))
    assert [some.rows(number) for number in range(len(some))] == [
        range(10),
        range(10, 20),
        range(20, 25),
    ]
    assert some.path(2).name == "tokens-00002-of-00003.safetensors"
    assert len(shards("tokens", images=30)) == 3 and len(shards("tokens", images=1)) == 1


@pytest.mark.parametrize("suffix", KINDS)
def test_a_folder_is_complete_when_all_shards_are_done(tmp_path, suffix):
    some = shards(tmp_path / "new" / "tokens", suffix)
    prepare(some, overwrite=False)
    assert some.header(1) is None
    fill(some)
    prepare(some, overwrite=False)
    found = [*finished(some.folder)]
    assert [path for path, _ in found] == [some.path(number) for number in range(3)]
    assert [int(header["images"]) for _, header in found] == [10, 10, 5]
    some.path(1).write_bytes(some.path(1).read_bytes()[:20])
    with pytest.raises(UserError, match=r"tokens-00001-of-00003\.\w+ is missing, damaged or of"):
        [*finished(some.folder)]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"codec": replace(CODEC, model="f" * 16)}, "model 0123456789abcdef instead of f{16}"),
        ({"effort": 4}, "effort 0 instead of 4"),
        ({"source": "beef"}, "source feed instead of beef"),
        ({"images": 26}, "images 25 instead of 26"),
        ({"shard_size": 5}, "shard_size 10 instead of 5"),
        ({"suffix": ".npz"}, r"suffix \.safetensors instead of \.npz"),
    ],
)
def test_shards_of_another_recipe_are_refused_or_replaced(tmp_path, changes, told):
    before, now = shards(tmp_path), shards(tmp_path, **changes)
    prepare(before, overwrite=False)
    fill(before)
    with pytest.raises(UserError, match=f"got {told}.*--overwrite"):
        prepare(now, overwrite=False)
    assert len([*finished(tmp_path)]) == 3
    (tmp_path / "notes.txt").touch()
    prepare(now, overwrite=True)
    assert [now.header(number) for number in range(len(now))] == [None] * len(now)
    assert json.loads((tmp_path / INDEX).read_text()) == now.recipe
    fill(now)
    prepare(now, overwrite=True)  # as each of several processes does
    assert len([*finished(tmp_path)]) == len(now) and (tmp_path / "notes.txt").exists()
    assert len([*tmp_path.iterdir()]) == len(now) + 2


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="expected a new or empty folder, or one with shards"):
        prepare(shards(tmp_path), overwrite=False)
    with pytest.raises(UserError, match=r"notes\.txt is a file"):
        prepare(shards(tmp_path / "notes.txt"), overwrite=False)
    prepare(shards(tmp_path), overwrite=True)
    assert (tmp_path / "notes.txt").exists()


def test_nothing_is_deleted_that_is_not_an_overwritten_shard(tmp_path):
    some = shards(tmp_path)
    prepare(some, overwrite=False)
    fill(some)
    names = ("tokens-00000-of-00002.backup.safetensors", "tokens-notes-of-mine.txt")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "tokens-00000-of-00009.npz").mkdir()
    for overwrite in (False, True):
        prepare(shards(tmp_path), overwrite)
        assert len([*finished(tmp_path)]) == 3
    prepare(shards(tmp_path, images=5), overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {INDEX, "tokens-00000-of-00009.npz", *names}


def test_shards_that_lost_their_index_are_kept(tmp_path):
    some = shards(tmp_path)
    prepare(some, overwrite=False)
    fill(some)
    (tmp_path / INDEX).unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for changes in ({}, {"images": 5}):
        with pytest.raises(UserError, match="holds other files"):
            prepare(shards(tmp_path, **changes), overwrite=False)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_process_may_have_started_the_same_shards(tmp_path, monkeypatch):
    """It wrote its index and a shard after this one had looked for an index."""
    some = shards(tmp_path)
    prepare(some, overwrite=False)
    fill(some)
    seen = iter([None])
    monkeypatch.setattr(module, "_index", lambda f: next(seen, some.recipe))
    prepare(some, overwrite=False)
    assert some.header(0) is not None


def test_leftovers_of_a_killed_process_do_not_matter(tmp_path):
    (tmp_path / ".rotvq-0123456789abcdef.part").touch()
    prepare(shards(tmp_path), overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "expected token shards with index.json; got none"),
        ("{", "expected the index of token shards; got another file"),
        ('{"format": "other"}', "expected the index of token shards; got another file"),
        ('{"format": "rotvq token shards", "version": 2}', "expected version 1; got 2. Update"),
        ('{"format": "rotvq token shards", "version": 1}', "it is damaged"),
    ],
)
def test_a_file_that_is_not_an_index_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / INDEX).write_text(content)
    with pytest.raises(UserError, match=message):
        [*finished(tmp_path)]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"shard_size": 0}, "--shard-size: expected 1 or more; got 0"),
        ({"suffix": ".zip"}, r"--format: expected \.npz.*got \.zip"),
        ({"images": 0}, "expected images; found none"),
    ],
)
def test_impossible_recipes_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        shards("tokens", **changes)


def test_another_tuning_makes_another_recipe(tmp_path):
    parts = (CODEC, 4, 10, "feed", 5, ".npz")
    plain, tuned = (Shards(tmp_path, recipe(*parts, tune=tune)) for tune in ("psnr", "ssim"))
    assert plain.recipe == recipe(*parts) and plain.id != tuned.id
    prepare(tuned, overwrite=False)
    with pytest.raises(UserError, match="got tune ssim instead of psnr"):
        prepare(plain, overwrite=False)


def test_other_classes_make_another_recipe():
    parts = (CODEC, 0, 10, "feed", 5, ".npz")
    plain, named, other = (Shards(Path(), recipe(*parts, classes=c)) for c in ((), "ab", "ba"))
    assert len({plain.id, named.id, other.id}) == 3
    assert plain.recipe == recipe(*parts) and named.recipe["classes"] == ["a", "b"]
