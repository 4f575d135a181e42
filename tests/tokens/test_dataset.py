"""The dataset of tokens, against the tokens in memory."""

import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from rotvq import TokenDataset
from rotvq.errors import UserError
from rotvq.tokens.collection import Codec, Packer
from rotvq.tokens.file import KINDS, load_tokens, save_tokens
from rotvq.tokens.shards import Shards, prepare, recipe

CODEC = Codec("0123456789abcdef", (1000,), 4, 3)
SEVERAL = Codec("0123456789abcdef", (1000, 3, 17, 1), 4, 3, (2, 2))
ONE, MANY = [(16, 24)], [(16, 24), (16, 24), (5, 9), (40, 4)]


def write(folder, sizes=ONE, codec=CODEC, suffix=".safetensors", n=25, bare=False, classes=()):
    """A folder of shards with ten images each, the second without its third image."""
    generator = np.random.default_rng(0)
    parts = {"effort": 0, "images": n, "source": "feed", "shard_size": 10, "suffix": suffix}
    shards = Shards(folder, recipe(codec, **parts))
    prepare(shards, overwrite=False)
    for number in range(len(shards)):
        packer = Packer(codec, classes)
        for row in shards.rows(number):
            if row != 12:
                size = sizes[row % len(sizes)]
                shape = (1, *codec.grid(size), *codec.index_shape)
                high = np.reshape(codec.codebook_sizes, codec.index_shape)
                indices = generator.integers(0, high, shape)
                others = () if bare else ([f"ä/{row}.png"], [None if row % 5 == 0 else 3 * row])
                packer.add(indices, size, *others)
        save_tokens(packer.tokens(), shards.path(number), recipe=shards.id)
    return shards


def expected(shards):
    """What the files hold, as items."""
    for number in range(len(shards)):
        tokens = load_tokens(shards.path(number))
        n = len(tokens)
        labels = [-1 if label is None else label for label in tokens.labels or [None] * n]
        yield from zip(tokens, labels, tokens.names or [""] * n, strict=True)


def equal(found, wanted):
    return found[1:] == tuple(wanted[1:]) and np.array_equal(found[0].numpy(), wanted[0])


@pytest.mark.parametrize("suffix", KINDS)
def test_classes_have_their_names(tmp_path, suffix):
    shards = write(tmp_path, suffix=suffix, classes=("cat", "dog"))
    assert TokenDataset(tmp_path).classes == ("cat", "dog")
    assert TokenDataset(shards.path(1)).classes == ("cat", "dog")


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("codec", [CODEC, SEVERAL])
@pytest.mark.parametrize("sizes", [ONE, MANY])
@pytest.mark.parametrize("bare", [False, True])
def test_items_are_what_the_files_hold(tmp_path, suffix, codec, sizes, bare):
    every = [*expected(write(tmp_path, sizes, codec, suffix, bare=bare))]
    dataset = TokenDataset(tmp_path)
    assert len(dataset) == len(every) == 24 and dataset.codec == codec
    order = np.random.default_rng(0).permutation(48) % 24 - 12  # also from the end, and twice
    assert all(map(equal, dataset.__getitems__(order.tolist()), (every[i] for i in order)))
    assert all(equal(dataset[i], every[i]) for i in range(24))
    indices, label, name = dataset[11]
    assert indices.dtype == torch.int64 and (label, name) == (
        (-1, "") if bare else (33, "ä/11.png")
    )


def test_a_single_file_is_a_data_set(tmp_path):
    shards = write(tmp_path)
    dataset = TokenDataset(shards.path(2))
    assert [name for _, _, name in dataset] == [f"ä/{row}.png" for row in range(20, 25)]


def test_files_of_older_versions_are_data_sets():
    for name in ("before.npz", "before.safetensors", "before.parquet"):
        dataset = TokenDataset(os.path.join(os.path.dirname(__file__), name))
        tokens = load_tokens(os.path.join(os.path.dirname(__file__), name))
        assert [item[2] for item in dataset] == tokens.names
        assert all(np.array_equal(a[0], b) for a, b in zip(dataset, tokens, strict=True))


@pytest.mark.parametrize("index", [24, -25])
def test_a_missing_image_is_an_index_error(tmp_path, index):
    write(tmp_path)
    with pytest.raises(IndexError, match=rf"expected numbers of 24 images; got \[{index}\]"):
        TokenDataset(tmp_path)[index]


def test_nothing_is_loaded_until_it_is_used(tmp_path):
    shards = write(tmp_path)
    dataset = TokenDataset(tmp_path)
    assert not dataset._open
    dataset[15]
    assert [*dataset._open] == [1]
    if sys.platform == "linux":
        mapped = Path("/proc/self/maps").read_text()
        assert str(shards.path(1)) in mapped and str(shards.path(0)) not in mapped
    assert pickle.loads(pickle.dumps(dataset))._open == {} and len(dataset._open) == 1
    assert len(pickle.dumps(dataset)) < shards.path(0).stat().st_size + 2000


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_loader_read_it(tmp_path, method):
    every = [*expected(write(tmp_path))]
    dataset = TokenDataset(tmp_path)
    dataset[3]  # a file is mapped before the workers start
    loader = DataLoader(dataset, batch_size=7, num_workers=2, multiprocessing_context=method)
    seen = [
        item
        for indices, labels, names in loader
        for item in zip(indices, labels, names, strict=True)
    ]
    assert [name for _, _, name in seen] == [name for _, _, name in every]
    assert [label.item() for _, label, _ in seen] == [label for _, label, _ in every]
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(seen, every, strict=True))


def test_processes_read_their_shares(tmp_path):
    write(tmp_path)
    dataset = TokenDataset(tmp_path)
    names = []
    for rank in range(2):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=True, seed=1)
        loader = DataLoader(dataset, batch_size=5, sampler=sampler)
        names += [name for batch in loader for name in batch[2]]
    assert sorted(names) == sorted(name for _, _, name in dataset)


def test_damage_is_one_line(tmp_path):
    shards = write(tmp_path)
    path = shards.path(1)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"tokens-00001.*expected a token file.*damaged"):
        TokenDataset(tmp_path)[15]
    tokens = load_tokens(shards.path(0))
    save_tokens(tokens[:3], path, recipe=shards.id)
    assert len(TokenDataset(tmp_path)) == 10 + 3 + 5
    dataset = TokenDataset(tmp_path)
    save_tokens(tokens[:4], path, recipe=shards.id)
    with pytest.raises(UserError, match=r"expected 3 images of model .*; got 4"):
        dataset[11]
    beyond = bytes([255]) * len(tokens.packed)
    path.write_bytes(shards.path(0).read_bytes().replace(tokens.packed, beyond))
    with pytest.raises(UserError, match="expected indices below 1000; got 1023"):
        TokenDataset(tmp_path)[15]


@pytest.mark.parametrize("images", ["x", -1, None, [1]])
def test_a_file_that_does_not_say_how_many_images_it_holds_is_damaged(tmp_path, images):
    """The number comes from the header, which a file of another program may hold differently."""
    header = {"format": "rotvq tokens", "version": 3, **CODEC.header()}
    for found in (header, {**header, "images": images}):
        path = tmp_path / "tokens.npz"
        np.savez(path, header=np.frombuffer(json.dumps(found).encode(), np.uint8))
        with pytest.raises(UserError, match=r"tokens\.npz.*damaged file"):
            TokenDataset(path)


def test_missing_files_and_shards_are_reported(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        TokenDataset(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"expected token shards with index\.json"):
        TokenDataset(tmp_path)
    write(tmp_path).path(1).unlink()
    with pytest.raises(
        UserError, match=r"expected 3 shards; tokens-00001-of-00003\.s.* is missing"
    ):
        TokenDataset(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_are_mapped_without_keeping_them_open(tmp_path):
    every = [*expected(write(tmp_path))]
    dataset = TokenDataset(tmp_path)
    found = dataset.__getitems__(range(len(dataset)))
    assert len(dataset._open) == 3
    assert not any(
        str(tmp_path) in os.readlink(each)
        for each in Path("/proc/self/fd").iterdir()
        if each.is_symlink()
    )
    assert all(map(equal, found, every))
