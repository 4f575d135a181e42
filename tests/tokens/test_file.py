"""Token files: there and back, their size, and files that are none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from rotvq import TokenDataset
from rotvq.errors import UserError
from rotvq.tokens.collection import Codec, Packer, Tokens
from rotvq.tokens.file import KINDS, load_tokens, read_header, save_tokens
from rotvq.tokens.header import read_classes
from rotvq.tokens.packing import pack

CODEC = Codec("0123456789abcdef", (1000,), 4, 3)
SEVERAL = Codec("0123456789abcdef", (1000, 3, 17, 1), 4, 3, (2, 2))


LABELS = [None, -1, 0, 2**63 - 1]
CAPTIONS = ["ä cat\n", None, "", "写真"]


def some(sizes, names=True, codec=CODEC, others=False):
    """Tokens of images of these sizes, and their indices."""
    generator = np.random.default_rng(0)
    packer, all_of_them = Packer(codec), []
    for number, size in enumerate(sizes):
        shape = (1, *codec.grid(size), *codec.index_shape)
        high = np.reshape(codec.codebook_sizes, codec.index_shape)
        indices = generator.integers(0, high, shape)
        packer.add(
            indices,
            size,
            [f"folder/image_{number}.png"] if names else None,
            [LABELS[number % 4]] if others else None,
            [CAPTIONS[number % 4]] if others else None,
        )
        all_of_them.append(indices[0])
    return packer.tokens(), all_of_them


@pytest.fixture(params=KINDS)
def path(request, tmp_path):
    return tmp_path / "new" / f"tokens{request.param}"


@pytest.mark.parametrize("codec", [CODEC, SEVERAL])
@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("sizes", [[], [(32, 32)], [(32, 32)] * 5 + [(5, 9), (8, 8), (5, 9)]])
def test_saved_tokens_load_unchanged(path, sizes, names, codec):
    tokens, indices = some(sizes, names, codec)
    save_tokens(tokens, path)
    (path.parent / "plain").touch()
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode
    found = load_tokens(path)
    assert found.codec == codec
    assert list(found.sizes) == sizes
    assert found.packed == tokens.packed
    assert found.names == tokens.names
    back = [each for _, batch in found.batches(2) for each in batch]
    assert len(back) == len(indices)
    assert all(np.array_equal(a, b) for a, b in zip(back, indices, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(found, indices, strict=True))


def test_tokens_are_a_sequence_of_arrays():
    tokens, indices = some([(8, 8), (5, 9), (5, 9), (4, 4)], codec=SEVERAL, others=True)
    assert len(tokens) == 4 and tokens[1].dtype == np.int64 and tokens[1].shape == (2, 3, 2, 2)
    assert np.array_equal(tokens[-1], indices[3])
    with pytest.raises(IndexError, match="out of range"):
        tokens[4]
    part = tokens[1:3]
    assert all(np.array_equal(a, b) for a, b in zip(part, indices[1:3], strict=True))
    assert part.names == tokens.names[1:3] and part.captions == CAPTIONS[1:3]
    assert part.labels == LABELS[1:3] and part.sizes == [(5, 9), (5, 9)]


def test_names_of_classes_are_kept(path):
    tokens = replace(some([(32, 32)] * 3, others=True)[0], classes=("cat", 'a "dog"', "猫\n"))
    save_tokens(tokens, path)
    assert load_tokens(path).classes == read_classes(read_header(path)) == tokens.classes
    assert tokens[1:].classes == tokens.classes


@pytest.mark.parametrize("classes", [[1, 2], "cat", {"cat": 0}, [["cat"]]])
def test_classes_that_are_no_names_are_damage(tmp_path, classes):
    save_tokens(some([(32, 32)])[0], path := tmp_path / "tokens.npz")
    described = dict(read_header(path)) | {"classes": classes}
    with np.load(path) as file:
        arrays = dict(file) | {"header": np.frombuffer(json.dumps(described).encode(), np.uint8)}
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="damaged file"):
        load_tokens(path)


@pytest.mark.parametrize("names", [True, False])
def test_labels_and_captions_are_kept(path, names):
    tokens, _ = some([(32, 32)] * 7, names, others=True)
    save_tokens(tokens, path)
    found = load_tokens(path)
    assert found.labels == [*LABELS, *LABELS[:3]] and found.captions == [*CAPTIONS, *CAPTIONS[:3]]
    assert (found.names is not None) == names and found.packed == tokens.packed
    save_tokens(some([(32, 32)] * 7)[0], path)
    assert load_tokens(path).labels is None and load_tokens(path).captions is None


@pytest.mark.parametrize("caption", ["the same", "\x00" * 2**16])
def test_captions_that_compress_well_can_be_read(path, caption):
    n = 200 if len(caption) > 100 else 100_000
    save_tokens(Tokens(CODEC, [(4, 4)] * n, bytes(2 * n), captions=[caption] * n), path)
    assert load_tokens(path).captions == [caption] * n


def test_labels_can_be_read_without_rotvq(tmp_path):
    tokens, _ = some([(4, 4)] * 4, others=True)
    for ending in KINDS:
        save_tokens(tokens, tmp_path / f"t{ending}")
    expected = [-(2**63), -1, 0, 2**63 - 1]
    assert np.load(tmp_path / "t.npz")["labels"].tolist() == expected
    assert load_file(tmp_path / "t.safetensors")["labels"].tolist() == expected
    assert pq.read_table(tmp_path / "t.parquet")["label"].to_pylist() == LABELS


@pytest.mark.parametrize(
    "labels, kind",
    [
        ([0, 9], np.int8),
        ([-127, None, 127], np.int8),
        ([-128], np.int16),
        ([128], np.int16),
        ([999, None], np.int16),
        ([2**31 - 1], np.int32),
        ([2**31], np.int64),
    ],
)
def test_labels_use_the_smallest_type(tmp_path, labels, kind):
    tokens = Tokens(CODEC, [(4, 4)] * len(labels), bytes(2 * len(labels)), labels=labels)
    save_tokens(tokens, tmp_path / "t.npz")
    assert np.load(tmp_path / "t.npz")["labels"].dtype == kind
    assert load_tokens(tmp_path / "t.npz").labels == labels


def test_files_of_version_1_are_read():
    """Files with one codebook and without labels, as version 1 wrote them."""
    for name in ("before.npz", "before.safetensors", "before.parquet"):
        found = load_tokens(Path(__file__).parent / name)
        assert list(found.sizes) == [(8, 8), (8, 8), (5, 9)] and len(found.packed) == 18
        assert list(found.names) == [f"folder/image_{i}.png" for i in range(3)]
        assert found.labels is None and found.captions is None
        assert len(found.codec.codebook_sizes) == 1 and found.codec.index_shape == ()
        assert [tokens.shape for tokens in found] == [(2, 2), (2, 2), (2, 3)]


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"labels": [1]}, "a label for each of 2 images; got 1"),
        ({"labels": [1, "2"]}, "a label has the wrong type"),
        ({"captions": ["a"] * 3}, "a caption for each of 2 images; got 3"),
        ({"captions": [None, 5]}, "a caption has the wrong type"),
        ({"names": ["a", None]}, "a name has the wrong type"),
    ],
)
def test_names_labels_and_captions_must_match_the_images(parts, message):
    with pytest.raises(UserError, match=message):
        Tokens(CODEC, [(4, 4)] * 2, bytes(4), **parts)


def test_batches_hold_consecutive_images_of_one_size(path):
    save_tokens(some([(32, 32)] * 5 + [(5, 9)])[0], path)
    shapes = [(these.start, these.stop, i.shape[1:]) for these, i in load_tokens(path).batches(3)]
    assert shapes == [(0, 3, (8, 8)), (3, 5, (8, 8)), (5, 6, (2, 3))]


@pytest.mark.parametrize("codebook_size", [1024, 2])
def test_a_file_is_as_small_as_its_bits(path, codebook_size):
    codec = Codec("0123456789abcdef", (codebook_size,), 4, 3)
    tokens, _ = some([(32, 32)] * 10_000, names=False, codec=codec)
    save_tokens(tokens, path)
    bits = 10_000 * 64 * codec.bits
    # A header of a kilobyte or two is more than 2 % of very few bits.
    assert path.stat().st_size <= 1.02 * bits / 8 + (codebook_size == 2) * 2048


def test_the_header_can_be_read_without_rotvq(tmp_path):
    tokens, _ = some([(32, 32)] * 3)
    save_tokens(tokens, tmp_path / "t.npz")
    header = json.loads(np.load(tmp_path / "t.npz")["header"].tobytes())
    assert header == {
        "format": "rotvq tokens",
        "version": 3,
        "model": "0123456789abcdef",
        "codebook_sizes": [1000],
        "index_shape": [],
        "stride": 4,
        "channels": 3,
        "bits": 10,
        "images": 3,
    }


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_a_damaged_file_is_one_line(path, damage):
    save_tokens(some([(32, 32)] * 20)[0], path)
    content = path.read_bytes()
    if damage == "other":
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(3))
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hi"}[damage])
    with pytest.raises(UserError, match="expected a token file written by rotvq encode"):
        load_tokens(path)


def test_missing_files_and_other_suffixes_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_tokens(tmp_path / "a.npz")
    for act in (load_tokens, lambda path: save_tokens(some([])[0], path)):
        with pytest.raises(UserError, match=r"\.npz, \.safetensors, \.parquet"):
            act(tmp_path / "a.zip")


def test_newer_versions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rotvq.tokens.header.VERSION", 5)
    save_tokens(some([(4, 4)])[0], tmp_path / "t.npz")
    monkeypatch.undo()
    with pytest.raises(
        UserError, match=r"t\.npz: expected version 4 .* got version 5\. Update rotvq"
    ):
        load_tokens(tmp_path / "t.npz")


def test_parts_that_do_not_match_are_refused():
    with pytest.raises(UserError, match="expected 80 bytes for 1 images; got 79"):
        Tokens(CODEC, [(32, 32)], bytes(79))
    with pytest.raises(UserError, match="a name for each"):
        Tokens(CODEC, [(32, 32)], bytes(80), ["a", "b"])
    for index in (1000, 1023):
        with pytest.raises(UserError, match=f"below 1000; got {index}"):
            list(Tokens(CODEC, [(4, 4)], (index << 6).to_bytes(2)).batches(1))
    (indices,) = (each for _, each in Tokens(CODEC, [(4, 4)], (999 << 6).to_bytes(2)).batches(1))
    assert indices.tolist() == [[[999]]]


@pytest.mark.parametrize(
    "header",
    [
        {"codebook_sizes": []},
        {"codebook_sizes": [5, 5]},
        {"codebook_sizes": [5, 5], "index_shape": [3]},
        {"codebook_sizes": [5, 0], "index_shape": [2]},
        {"codebook_sizes": [2**63], "index_shape": []},
        {"codebook_sizes": [5], "index_shape": [-1, -1]},
        {"codebook_sizes": [1] * 2000, "index_shape": [2000]},
        {"codebook_sizes": "five"},
        {"stride": 0},
        {"channels": 2},
    ],
)
def test_impossible_headers_are_refused(tmp_path, header, monkeypatch):
    monkeypatch.setattr(Codec, "header", lambda self: vars(CODEC) | {"index_shape": ()} | header)
    for suffix in KINDS:
        save_tokens(Tokens(CODEC, [], b""), tmp_path / f"t{suffix}")
        with pytest.raises(UserError, match="got something else, or a damaged file"):
            load_tokens(tmp_path / f"t{suffix}")


@pytest.mark.parametrize("sizes", [(16, 16), (16, 4)])
def test_an_index_beyond_its_own_codebook_is_refused(sizes):
    codec = Codec("0123456789abcdef", (16, *sizes[1:], 3), 4, 3, (3,))
    packed = pack(np.array([[[15, sizes[1] - 1, 3]]]), codec.widths).tobytes()
    with pytest.raises(UserError, match=r"below 16, .*3; got 15\. The file is damaged"):
        Tokens(codec, [(4, 4)], packed)[0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"indices": np.full((2, 2, 3), 16)}, "expected 0 to below 16; got 16 to 16"),
        ({"indices": np.full((2, 2, 3), -1)}, "expected 0 to below 16; got -1 to -1"),
        ({"indices": np.zeros((2, 3, 2), int)}, r"expected 2x3 tokens for images of 7x12 .* 3x2"),
        ({"indices": np.zeros((2, 2, 3))}, "expected integers of shape .* got float64"),
        (
            {"indices": np.zeros((2, 2, 3, 1), int)},
            r"\(images, rows, columns\); got int64 of shape",
        ),
        ({"indices": np.zeros((2, 6), int)}, r"\(images, rows, columns\); got int64 of shape"),
        (
            {"names": ["a"]},
            "expected one name, label or caption for each of 2|for each of 2 images",
        ),
        ({"labels": np.arange(3)}, "for each of 2 images; got 3"),
    ],
)
def test_tokens_that_do_not_fit_are_not_packed(wrong, said):
    packer = Packer(Codec("0123456789abcdef", (16,), 4, 3))
    good = {"indices": np.arange(12).reshape(2, 2, 3), "size": (7, 12), "names": ["a", "b"]}
    with pytest.raises(UserError, match=said):
        packer.add(**good | wrong)
    packer.add(**good | {"indices": good["indices"].astype(np.uint64)}, labels=np.array([3, 0]))
    tokens = packer.tokens()
    assert np.array_equal([*tokens], good["indices"]) and tokens.labels == [3, 0]


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_empty_images_are_refused_and_one_pixel_is_enough(size):
    with pytest.raises(UserError, match="expected images of 1x1 pixels or more"):
        Tokens(CODEC, [size], b"")
    assert len(Tokens(CODEC, [(1, 1)], bytes(2))) == 1


def test_equal_tokens_are_equal_files(path):
    for _ in range(3):
        before = path.read_bytes() if path.exists() else None
        save_tokens(some([(32, 32), (5, 9)], codec=SEVERAL, others=True)[0], path, recipe="abc")
        assert before in (None, path.read_bytes())
    assert read_header(path)["recipe"] == "abc" and int(read_header(path)["images"]) == 2


def test_a_folder_of_shards_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"got a folder\. Read a folder of shards with rotvq\.Token"
    ):
        load_tokens(tmp_path)


@pytest.mark.parametrize("suffix", KINDS)
def test_the_home_folder_has_its_short_name(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_tokens(some([(8, 8)])[0], f"~/tokens{suffix}")
    assert (tmp_path / f"tokens{suffix}").is_file()
    assert len(load_tokens(f"~/tokens{suffix}")) == len(TokenDataset(f"~/tokens{suffix}")) == 1
