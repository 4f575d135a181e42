import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rotvq.data_processing import load
from rotvq.data_processing.image_formats import Unreadable
from rotvq.data_processing.parquet import find_parquet, open_parquet
from rotvq.errors import UserError

ToPng = Callable[[np.ndarray], bytes]


@pytest.fixture
def write(to_png: ToPng) -> Callable[..., None]:
    """Write a Parquet file of flat 8x8 images with the given values."""

    def write(path: Path, values: range | list[int], image: str = "img", **columns: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = [{"bytes": to_png(np.full((32, 32, 3), v, np.uint8)), "path": None} for v in values]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pq.write_table(pa.table({image: pa.array(cells, kind), **columns}), path)

    return write


@pytest.mark.parametrize(
    ("features", "classes"),
    [
        ({"label": {"names": ["even", "odd"], "_type": "ClassLabel"}}, ("even", "odd")),
        ({"label": {"dtype": "int64", "_type": "Value"}}, ()),
        ({"label": {"names": "even"}}, ()),
        ({"label": {"names": [0, 1]}}, ()),
        ({"label": None}, ()),
        ({}, ()),
        (["label"], ()),
    ],
)
def test_names_of_classes_come_from_the_metadata(
    tmp_path: Path, write: Callable[..., None], features: object, classes: tuple[str, ...]
) -> None:
    write(path := tmp_path / "train-0.parquet", range(20), label=[n % 2 for n in range(20)])
    described = json.dumps({"info": {"features": features}})
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": described}), path)
    assert load(str(tmp_path)).classes == classes


@pytest.mark.parametrize("metadata", ["no JSON", "[]", "null", "\udce9"])
def test_other_metadata_names_no_classes(
    tmp_path: Path, write: Callable[..., None], metadata: str
) -> None:
    write(path := tmp_path / "train-0.parquet", range(20), label=[n % 2 for n in range(20)])
    content = metadata.encode("utf-8", "surrogateescape")
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"huggingface": content}), path)
    assert load(str(tmp_path)).classes == ()


def _values(images: np.ndarray) -> list[int]:
    return [int(value) for value in images[:, 0, 0, 0]]


def test_the_layout_of_the_hub_is_read_shard_after_shard(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    write(tmp_path / "train-00000-of-00002.parquet", range(5), label=[0, 1, 2, 3, 9])
    write(tmp_path / "train-00001-of-00002.parquet", range(5, 8), label=[4, 5, 6])
    write(tmp_path / "test-00000-of-00001.parquet", [50, 60], label=[7, 8])
    data = load(str(tmp_path))
    assert _values(data.train.images) == list(range(8)) and _values(data.test.images) == [50, 60]
    assert data.train.labels is not None and data.train.labels.tolist() == [0, 1, 2, 3, 9, 4, 5, 6]
    assert data.train.labels.dtype == np.int64
    assert data.name == "CIFAR-10 (Parquet)"
    assert data.notes == ("8 of 50,000 training images", "2 of 10,000 test images")


def test_other_columns_are_not_taken_for_cifar10(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    write(tmp_path / "train-0.parquet", range(3), image="image", label=["a", "b", "c"])
    write(tmp_path / "validation-0.parquet", [9], image="image")
    data = load(str(tmp_path))
    assert data.name == tmp_path.name and data.notes == () and data.train.labels is None


def test_a_folder_that_is_not_utf_8(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "plain/train-0.parquet", range(3))
    write(tmp_path / "plain/test-0.parquet", [9])
    data = load(str((tmp_path / "plain").rename(tmp_path / "caf\udce9")))
    path = (tmp_path / "caf\udce9/train-0.parquet").rename(tmp_path / "t\udce9.parquet")
    assert next(iter(open_parquet(path).reader("all"))).name == "t%E9.parquet/000000"
    assert _values(data.train.images) == [0, 1, 2] and _values(data.test.images) == [9]


@pytest.mark.parametrize("name", ["picture", "image"])
def test_a_column_of_plain_bytes_is_read_as_images(
    tmp_path: Path, to_png: ToPng, name: str
) -> None:
    content = [to_png(np.full((8, 8), v, np.uint8)) for v in (1, 2)]
    for split in ("train", "test"):
        pq.write_table(pa.table({"id": [1, 2], name: content}), tmp_path / f"{split}.parquet")
    assert _values(load(str(tmp_path)).train.images) == [1, 2]


def test_without_a_test_split_a_tenth_is_held_out(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    write(tmp_path / "train.parquet", range(60), image="image")
    data = load(str(tmp_path))
    train, test = _values(data.train.images), _values(data.test.images)
    assert len(test) == 6 and sorted(train + test) == list(range(60))
    assert data.notes == ("no test split found: 10 % of the images are held out",)


def test_missing_shards_are_noted(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "train-00000-of-00003.parquet", range(5), image="image")
    write(tmp_path / "test-00000-of-00001.parquet", [1], image="image")
    notes = load(str(tmp_path)).notes
    assert notes == ("1 of 3 Parquet files of the train split",)


def test_damaged_rows_are_skipped_and_counted(tmp_path: Path, write: Callable[..., None]) -> None:
    cells = [{"bytes": b"junk", "path": None}, {"bytes": None, "path": None}, None]
    write(tmp_path / "test.parquet", [1])
    write(tmp_path / "train-1.parquet", range(2))
    pq.write_table(
        pa.table({"img": pa.array(cells, pq.read_schema(tmp_path / "test.parquet").field(0).type)}),
        tmp_path / "train-0.parquet",
    )
    data = load(str(tmp_path))
    assert _values(data.train.images) == [0, 1]
    assert [each[:2] for each in data.skipped] == [
        ("train-0.parquet/000000", "not an image of a known format"),
        ("train-0.parquet/000001", "no image in the row"),
        ("train-0.parquet/000002", "no image in the row"),
    ]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(
    tmp_path: Path, write: Callable[..., None], share: float
) -> None:
    write(tmp_path / "train-0.parquet", range(20))
    write(tmp_path / "test-0.parquet", [1])
    path = tmp_path / "train-0.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        UserError, match=r"train-0\.parquet: expected a Parquet file; it cannot be read"
    ) as caught:
        load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_damage_inside_a_file_is_a_user_error_that_names_it(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    write(tmp_path / "train-0.parquet", range(200))
    write(tmp_path / "test-0.parquet", [1])
    path = tmp_path / "train-0.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)  # the head of the first page; the footer still reads
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"train-0\.parquet: expected a Parquet file; it cannot be read"
    ):
        load(str(tmp_path))


def test_a_file_without_images_is_refused(tmp_path: Path, write: Callable[..., None]) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"expected a column of images, .*; got text, label"):
        load(str(tmp_path))


def test_sister_files_must_agree(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "train.parquet", [1, 2])
    write(tmp_path / "test.parquet", [1], image="image")
    with pytest.raises(UserError, match=r"test\.parquet: expected the columns img"):
        load(str(tmp_path))


def test_a_folder_for_each_split_is_another_layout_of_the_hub(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    for split, values in (("train", [1, 2]), ("test", [3])):
        write(tmp_path / "default" / split / "0000.parquet", values)
    data = load(str(tmp_path))
    assert _values(data.train.images) == [1, 2] and _values(data.test.images) == [3]
    names = [item.name for item in open_parquet(tmp_path / "default").reader("all")]
    assert names == [f"{part}.parquet/{row:06d}" for part, row in
                     (("train/0000", 0), ("train/0000", 1), ("test/0000", 0))]  # fmt: skip


def test_a_table_of_metadata_does_not_hide_images(tmp_path: Path, to_png: ToPng) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.png").write_bytes(to_png(np.full((8, 8), 4, np.uint8)))
        pq.write_table(pa.table({"file_name": ["a.png"]}), tmp_path / split / "metadata.parquet")
    data = load(str(tmp_path))
    assert _values(data.train.images) == _values(data.test.images) == [4]
    assert {each.path for each in data.skipped} == {
        "train/metadata.parquet",
        "test/metadata.parquet",
    }


def test_captions_may_be_missing_in_some_files(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "train-0.parquet", [1, 2], caption=["one", None])
    write(tmp_path / "train-1.parquet", [3], text=["three"])
    write(tmp_path / "test-0.parquet", [4])
    source = open_parquet(tmp_path)
    assert [item.caption for item in source.reader("all")] == ["one", None, "three", None]


def test_files_are_found_one_folder_down(tmp_path: Path, write: Callable[..., None]) -> None:
    assert find_parquet(tmp_path) is None
    write(tmp_path / "plain_text" / "train-0.parquet", [1, 2])
    assert find_parquet(tmp_path) == tmp_path / "plain_text"
    write(tmp_path / "other" / "train-0.parquet", [1, 2])
    with pytest.raises(UserError, match=r"several datasets \(other, plain_text\)"):
        find_parquet(tmp_path)
    write(tmp_path / "train-0.parquet", [1, 2])
    assert find_parquet(tmp_path) == tmp_path


@pytest.mark.parametrize("where", ["inside", "below", "absolute", "outside", "up", "link", "nul"])
def test_a_path_in_a_row_is_followed_inside_the_data_set_only(
    tmp_path: Path, to_png: ToPng, where: str
) -> None:
    data = tmp_path / "data"
    (data / "pictures").mkdir(parents=True)
    image = to_png(np.full((8, 8), 7, np.uint8))
    (tmp_path / "private.png").write_bytes(image)
    (data / "pictures" / "a.png").write_bytes(image)
    (data / "link.png").symlink_to(tmp_path / "private.png")
    path = {
        "inside": "pictures/a.png",
        "below": "pictures/../pictures/a.png",
        "absolute": str(data / "pictures" / "a.png"),
        "outside": str(tmp_path / "private.png"),
        "up": "../private.png",
        "link": "link.png",
        "nul": "a\0.png",
    }[where]
    cells = [{"bytes": image, "path": "x"}, {"bytes": None, "path": path}]
    for split in ("train", "test"):
        pq.write_table(pa.table({"image": cells}), data / f"{split}.parquet")
    loaded = load(str(data))
    if where in ("inside", "below", "absolute"):
        assert _values(loaded.train.images) == [7, 7]
    else:
        assert _values(loaded.train.images) == [7]
        reason = "path outside the dataset"
        assert loaded.skipped[0][:2] == ("train.parquet/000001", reason)
    # A single file has no folder of its own.
    (_, second) = open_parquet(data / "train.parquet").reader("all")
    assert isinstance(second.content, Unreadable) and second.content.detail
