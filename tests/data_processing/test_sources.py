import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rotvq.data_processing import hub, load
from rotvq.data_processing.reader import ImageSource, of_arrays
from rotvq.data_processing.sources import Place, resolve
from rotvq.errors import UserError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the hub, which answers with black images."""
    names: list[str] = []

    def open_hub(identifier: str) -> ImageSource:
        names.append(identifier)
        black = of_arrays(np.zeros((2, 3, 8, 8), np.uint8), np.zeros(2, np.int64), "black")
        return ImageSource(identifier, {"train": lambda: black, "test": lambda: black})

    monkeypatch.setattr(hub, "open_hub", open_hub)
    return names


def test_photos_is_the_embedded_data() -> None:
    assert load("photos", size=16).train.images.shape[1:] == (3, 16, 16)


@pytest.mark.parametrize(
    ("source", "identifier"),
    [
        ("cifar10", "uoft-cs/cifar10"),
        ("zh-plus/tiny-imagenet", "zh-plus/tiny-imagenet"),
        ("owner/name.v2", "owner/name.v2"),
        ("hub:mnist", "mnist"),
        ("hub:owner/name", "owner/name"),
    ],
)
def test_names_go_to_the_hub(source: str, identifier: str, asked: list[str]) -> None:
    load(source)
    assert asked == [identifier]


def test_an_existing_path_takes_precedence_over_the_hub(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(UserError, match="expected at least two images; got 0"):
        load("owner/name")
    assert asked == []


@pytest.mark.parametrize(
    ("word", "other", "place"),
    [
        ("photos", "embedded:photos", Place(embedded="photos")),
        ("cifar10", "hub:uoft-cs/cifar10", Place(hub="uoft-cs/cifar10")),
        ("owner/name", "hub:owner/name", Place(hub="owner/name")),
    ],
)
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_path_takes_precedence_over_a_name_and_a_prefix_over_a_path(
    word: str, other: str, place: Place, is_folder: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert resolve(word) == resolve(other) == place
    Path(word).parent.mkdir(exist_ok=True)
    if is_folder:
        Path(word).mkdir()
    else:
        Path(word).touch()
    assert resolve(word) == Place(path=Path(word))
    assert resolve(other) == place


@pytest.mark.parametrize("source", ["embedded:", "embedded:cats", "hub:", ""])
def test_a_prefix_without_a_valid_name_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="expected an existing path"):
        resolve(source)


@pytest.mark.parametrize(
    "source",
    ["./nope", "/no/such/folder", "~/no-such-folder", "../x/y", "data/cifar-10-python.tar.gz",
     "nope.png", "a/b/c", "C:\\data", "nonsense", "", "data/x.parquet", "a" * 5000, "x\0y"],
)  # fmt: skip
def test_everything_else_is_refused_in_one_line(source: str, asked: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    assert asked == []


def test_a_refusal_lists_what_is_accepted() -> None:
    with pytest.raises(
        UserError, match=r"hub:OWNER/NAME; got '\./nope'\. A path can lead to .*shards"
    ):
        load("./nope")


@pytest.mark.parametrize("name", ["picture.png", "notes", "images.zip"])
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not an archive")
    with pytest.raises(
        UserError, match=f"{name}: expected cifar-10-python.*; got another kind of file"
    ):
        load(str(tmp_path / name))


def test_official_batches_are_found_in_the_folder_and_in_its_parent(batches: Path) -> None:
    inside, parent = load(str(batches)), load(str(batches.parent))
    assert inside.name == "CIFAR-10 (official batches)"
    assert inside.train.fingerprint() == parent.train.fingerprint()


def test_parquet_and_images_are_told_apart(
    tmp_path: Path, to_png: Callable[[np.ndarray], bytes]
) -> None:
    cell = {"bytes": to_png(np.full((8, 8, 3), 5, np.uint8)), "path": None}
    for split in ("train", "test"):
        (tmp_path / "p" / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": [cell]}), tmp_path / "p" / "data" / f"{split}-0.parquet")
        (tmp_path / "i" / split).mkdir(parents=True)
        Image.new("L", (8, 8), 6).save(tmp_path / "i" / split / "x.png")
    assert (load(str(tmp_path / "p")).train.images == 5).all()
    assert (load(str(tmp_path / "i")).train.images == 6).all()


def test_the_splits_must_share_a_shape(tmp_path: Path) -> None:
    for split, side in (("train", 8), ("test", 9)):
        (tmp_path / split).mkdir()
        Image.new("L", (side, side)).save(tmp_path / split / "x.png")
    with pytest.raises(UserError, match=r"8x8 and test images 9x9\. Pass --data\.size"):
        load(str(tmp_path))
    assert load(str(tmp_path), size=8).test.images.shape == (1, 3, 8, 8)


def test_sizes_and_channels_that_make_no_image_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"data\.size: expected a side in pixels .* 4 or more; got 3"
    ):
        load("photos", size=3)
    with pytest.raises(UserError, match=r"data\.channels: expected 1 .* got 4"):
        load("photos", channels=4)


def test_too_little_memory_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_hub(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(hub, "open_hub", open_hub)
    with pytest.raises(UserError, match="expected images that fit in memory"):
        load("hub:x")


def test_the_package_imports_neither_torch_nor_the_heavy_readers() -> None:
    heavy = ("torch", "datasets", "pyarrow", "sklearn", "huggingface_hub")
    code = f"import sys, rotvq.data_processing; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_images_need_not_be_square(tmp_path: Path) -> None:
    for split, shape in (("train", (30, 21)), ("test", (50, 50))):
        (tmp_path / split).mkdir()
        Image.new("RGB", shape, (9, 8, 7)).save(tmp_path / split / "x.png")
    data = load(str(tmp_path), size="12x8")
    assert data.train.images.shape == data.test.images.shape == (1, 3, 12, 8)
    assert load("photos", size="40x24").test.images.shape[1:] == (3, 40, 24)


def test_a_crop_of_another_shape_is_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 12:20] = 200
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Image.fromarray(pixels).save(tmp_path / split / "x.png")
    assert (load(str(tmp_path), size="16x8").test.images == 200).all()
