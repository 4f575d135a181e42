"""What holds for every data source: folders, shards, Parquet, the hub, official batches."""

import io
import pickle
import shutil
import tarfile
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rotvq.data_processing import hub, load
from rotvq.data_processing.decoding import Findings, decoded
from rotvq.data_processing.pictures import open_pictures
from rotvq.data_processing.reader import DIFFERENT_CLASSES, joined, of_arrays
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.sources import open_source
from rotvq.errors import UserError

DAMAGED = 3
"""The row that is damaged."""
WORDS = ["ä cat", "写真", "", "two\nlines", "a\ttab"]


def png(value, size=(8, 8)):
    stream = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def rows(start, n, sizes=((8, 8),)):
    """Images of one value each, with the same number as label, and a caption."""
    return [
        SimpleNamespace(
            content=b"damaged" if i == DAMAGED else png(start + i, sizes[i % len(sizes)]),
            label=start + i,
            caption=WORDS[i % len(WORDS)],
        )
        for i in range(n)
    ]


def write_shard(path, some):
    with tarfile.open(path, "w") as archive:
        for row in some:
            for ending, content in (
                ("png", row.content),
                ("cls", str(row.label).encode()),
                ("txt", row.caption.encode()),
            ):
                member = tarfile.TarInfo(f"schlüssel {row.label:03d}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def table(some):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": row.content, "path": None} for row in some]
    return pa.table(
        {
            "image": pa.array(cells, kind),
            "label": [row.label for row in some],
            "caption": [row.caption for row in some],
        }
    )


def folder(place, train, test, monkeypatch):
    for split, some in (("train", train), ("test", test)):
        (place / split).mkdir()
        for row in some:
            (place / split / f"{row.label:03d}.png").write_bytes(row.content)
    return str(place)


def shards(place, train, test, monkeypatch):
    write_shard(place / "train-0.tar", train[: len(train) // 2])
    write_shard(place / "train-1.tar", train[len(train) // 2 :])
    write_shard(place / "test-0.tar", test)
    return str(place)


def parquet(place, train, test, monkeypatch):
    pq.write_table(table(train[:2]), place / "train-0.parquet")
    pq.write_table(table(train[2:]), place / "train-1.parquet", row_group_size=2)
    pq.write_table(table(test), place / "test-0.parquet")
    return str(place)


def on_hub(place, train, test, monkeypatch):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.Value("int64"),
            "caption": datasets.Value("string"),
        }
    )
    splits = {
        split: datasets.Dataset(table(some)).cast(features)
        for split, some in (("train", train), ("test", test))
    }
    monkeypatch.setattr(hub, "_is_reachable", lambda identifier: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda identifier: splits)
    return "hub:some/images"


@pytest.fixture(params=[folder, shards, parquet, on_hub], ids=lambda write: write.__name__)
def write(request, tmp_path, monkeypatch):
    """Writes training and test rows as a source of one kind; returns the word that names it."""
    return lambda train, test: request.param(tmp_path, train, test, monkeypatch)


def read(reader, target=Target()):  # noqa: B008
    findings = Findings()
    return list(decoded(reader, target, findings)), findings.skipped


def test_a_damaged_image_does_not_shift_labels(write):
    word = write(rows(10, 6), rows(50, 5))
    data = load(word)
    for split, start, n in ((data.train, 10, 6), (data.test, 50, 5)):
        kept = [start + i for i in range(n) if i != DAMAGED]
        assert split.images[:, 0, 0, 0].tolist() == kept
        assert split.labels is None or split.labels.tolist() == kept
    assert len(data.skipped) == 2 and data.skipped[0].reason == "not an image of a known format"
    assert any(note.startswith("2 skipped: not an image of a known format") for note in data.notes)


def test_images_of_several_sizes_are_read_with_names_labels_and_captions(write, request):
    train = rows(10, 6, [(8, 8), (5, 9), (16, 4)])
    word = write(train, rows(50, 5))
    found, skipped = read(open_source(word, Target()).reader("train"))
    kept = [row for i, row in enumerate(train) if i != DAMAGED]
    assert [pixels[0, 0, 0] for _, pixels in found] == [row.label for row in kept]
    sizes = [Image.open(io.BytesIO(row.content)).size for row in kept]
    assert [pixels.shape[:0:-1] for _, pixels in found] == sizes
    assert len({item.name for item, _ in found}) == len(kept) and len(skipped) == 1
    if "folder" not in request.node.name:
        assert [item.label for item, _ in found] == [row.label for row in kept]
        assert [item.caption for item, _ in found] == [row.caption for row in kept]


def test_the_count_is_that_of_the_items(write):
    source = open_source(write(rows(10, 6), rows(50, 5)), Target())
    assert source.reader(None).notes[-1].startswith("only the test split is read: pass --split all")
    assert not source.reader("test").notes
    for split, n in (("train", 6), ("test", 5), ("all", 11), (None, 5)):
        reader = source.reader(split)
        assert reader.count == len([*reader]) == len(reader.keys()) == n


def test_a_part_is_read_alone(write):
    reader = open_source(write(rows(10, 6), rows(50, 5)), Target()).reader("all")
    every = [item.name for item in reader]
    mask = np.arange(11) % 3 == 1
    part = reader.only(mask)
    assert [item.name for item in part] == every[1::3]
    assert part.keys() == reader.keys()[1::3]
    assert [item.name for item in part.only(np.array([False, True, False, False]))] == [every[4]]


def test_some_rows_are_those_of_the_whole_also_in_another_process(write):
    reader = open_source(write(rows(10, 6), rows(50, 5)), Target()).reader("all")
    every = [item.name for item in reader]
    items = pickle.loads(pickle.dumps(reader.items))
    for chosen in ([0], [10], [2, 3, 7], [5, 6], range(11), []):
        found = items(np.array(chosen, np.int64))
        assert [item.name for item in found] == [every[i] for i in chosen]
    part = pickle.loads(pickle.dumps(reader.only(np.arange(11) % 3 == 1).items))
    assert [item.name for item in part(np.array([1, 3]))] == [every[4], every[10]]


def test_the_fingerprint_changes_with_the_images(tmp_path, write):
    def fingerprints(n):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        source = open_source(write(rows(10, 6), rows(50, n)), Target())
        whole = source.reader("all")
        half = whole.only(np.arange(6 + n) % 2 == 0)
        return [each.fingerprint() for each in (source.reader("train"), whole, half)]

    before, other = fingerprints(5), fingerprints(4)
    assert fingerprints(5) == before and all(len(each) == 16 for each in before)
    assert len({*before, *other}) == 5 and before[0] == other[0]


@pytest.mark.parametrize("kind", ["folder", "tar", "tars", "parquet", "parquets"])
def test_a_tenth_of_a_source_without_splits_is_held_out(kind, tmp_path):
    some = [row for row in rows(10, 21) if row.content != b"damaged"]
    word = tmp_path / "x"
    if kind == "folder":
        word.mkdir()
        for row in some:
            (word / f"{row.label}.png").write_bytes(row.content)
    elif kind == "tar":
        word = write_shard(tmp_path / "x.tar", some)
    elif kind == "tars":
        word.mkdir()
        write_shard(word / "0.tar", some[:7])
        write_shard(word / "1.tar", some[7:])
    elif kind == "parquet":
        word = tmp_path / "x.parquet"
        pq.write_table(table(some), word)
    else:
        word.mkdir()
        pq.write_table(table(some), word / "train-0.parquet")
    data = load(str(word))
    train, test = data.train.images[:, 0, 0, 0].tolist(), data.test.images[:, 0, 0, 0].tolist()
    assert len(test) == 2 and sorted(train + test) == [row.label for row in some]
    assert data.train.labels is None or data.train.labels.tolist() == train
    assert data.notes == ("no test split found: 10 % of the images are held out",)
    # To be encoded, all of it is read.
    reader = open_pictures([str(word)], None, Target())
    assert [pixels[0, 0, 0] for _, pixels in read(reader)[0]] == [row.label for row in some]
    reader = open_source(str(word), Target()).reader("test")
    assert [pixels[0, 0, 0] for _, pixels in read(reader)[0]] == test


def test_only_the_split_that_is_asked_for_is_read(tmp_path, monkeypatch):
    word = parquet(tmp_path, rows(10, 6), rows(50, 5), monkeypatch)
    for name in ("train-0.parquet", "train-1.parquet"):
        content = bytearray((tmp_path / name).read_bytes())
        content[4:60] = bytes(56)  # the first page; the footer, which names the columns, is whole
        (tmp_path / name).write_bytes(content)
    source = open_source(word, Target())
    assert len(read(source.reader("test"))[0]) == 4
    with pytest.raises(UserError, match=r"train-0\.parquet: .* cannot be read"):
        read(source.reader("train"))


def test_only_the_shards_that_are_asked_for_are_read(tmp_path, monkeypatch):
    word = shards(tmp_path, rows(10, 6), rows(50, 5), monkeypatch)
    (tmp_path / "train-0.tar").write_bytes(b"damaged")
    source = open_source(word, Target())
    assert len(read(source.reader("test"))[0]) == 4
    with pytest.raises(UserError, match=r"train-0\.tar: expected a tar file"):
        source.reader("train")


def test_several_sources_are_read_one_after_the_other(tmp_path):
    words = [write_shard(tmp_path / f"{n}.tar", rows(10 * n, 3)) for n in (1, 2)]
    pq.write_table(table(rows(50, 2)), tmp_path / "p.parquet")
    reader = open_pictures([*map(str, words), str(tmp_path / "p.parquet")], None, Target())
    values = [pixels[0, 0, 0] for _, pixels in read(reader)[0]]
    assert values == [10, 11, 12, 20, 21, 22, 50, 51]
    assert DIFFERENT_CLASSES not in reader.notes


def test_classes_of_several_sources_keep_names_that_are_the_same(tmp_path):
    def named(label, *classes):
        images = np.zeros((2, 3, 8, 8), np.uint8)
        return of_arrays(images, np.full(2, label), "some", classes)

    whole = joined([named(0, "cat", "dog"), named(1, "cat", "dog")])
    assert whole.classes == ("cat", "dog") and whole.notes == ()
    for other in (named(0, "dog", "cat"), named(0)):
        mixed = joined([named(0, "cat", "dog"), other])
        assert mixed.classes == () and mixed.notes == (DIFFERENT_CLASSES,)


def test_a_missing_split_is_refused(tmp_path):
    write_shard(tmp_path / "test-0.tar", rows(0, 2))
    source = open_source(str(tmp_path), Target())
    assert len(read(source.reader(None))[0]) == 2
    with pytest.raises(UserError, match="expected a train split; it has only test"):
        source.reader("train")


def test_one_image_cannot_be_split(tmp_path):
    word = write_shard(tmp_path / "a.tar", rows(0, 1))
    with pytest.raises(UserError, match=r"a\.tar: expected at least two images; got 1"):
        open_source(str(word), Target()).reader("train")


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    with pytest.raises(
        UserError, match=r"at least two images; got 0; 2 skipped: not an image file, first"
    ):
        load(str(tmp_path))


def test_pixels_in_memory_are_converted_to_the_target():
    images = np.arange(2 * 3 * 8 * 8, dtype=np.uint8).reshape(2, 3, 8, 8)
    reader = of_arrays(images, np.array([4, 5]), "some")
    (first, second), _ = read(reader)
    assert np.array_equal(first[1], images[0])
    assert (second[0].name, second[0].label) == ("some/000001", 5)
    ((_, gray), _), _ = read(reader, Target(4, 1))
    expected = Image.fromarray(images[0].transpose(1, 2, 0)).resize((4, 4), Image.LANCZOS)
    assert np.array_equal(gray[0], np.asarray(expected.convert("L")))
