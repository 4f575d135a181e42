from collections.abc import Callable
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest

from rotvq.data_processing import hub
from rotvq.data_processing.resizing import Target
from rotvq.errors import UserError

Serve = Callable[[object], list[str]]
ToPng = Callable[[np.ndarray], bytes]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Let the hub answer with given splits, or an exception; return the names asked for."""

    def serve(answer: object) -> list[str]:
        asked: list[str] = []

        def load_dataset(name: str) -> object:
            asked.append(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(hub, "_is_reachable", lambda identifier: True)
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return serve


def _dataset(to_png: ToPng, values: list[int], image: str = "img") -> datasets.Dataset:
    columns = {
        "title": [str(v) for v in values],
        image: [{"bytes": to_png(np.full((32, 32, 3), v, np.uint8)), "path": None} for v in values],
        "label": [v % 2 for v in values],
    }
    kinds = {
        "title": datasets.Value("string"),
        image: datasets.Image(),
        "label": datasets.ClassLabel(names=["even", "odd"]),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def test_the_image_column_is_found_from_the_features(serve: Serve, to_png: ToPng) -> None:
    splits = {
        "train": _dataset(to_png, [4, 7, 9], "photo"),
        "validation": _dataset(to_png, [6], "photo"),
    }
    asked = serve(datasets.DatasetDict(splits))
    data = hub.open_hub("someone/photos").load(Target())
    assert asked == ["someone/photos"]
    assert data.train.images[:, 1, 2, 3].tolist() == [4, 7, 9]
    assert data.train.labels is not None and data.train.labels.tolist() == [0, 1, 1]
    assert data.test.images[:, 0, 0, 0].tolist() == [6]
    assert data.name == "someone/photos" and data.notes == ()
    assert data.classes == ("even", "odd")


def test_paths_in_rows_are_followed_into_what_was_downloaded_only(
    serve: Serve, to_png: ToPng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    own, other = (
        tmp_path / "hub" / f"datasets--someone--{name}" / "a.png" for name in ("photos", "private")
    )
    for path in (own, other, tmp_path / "a.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_png(np.full((8, 8, 3), 5, np.uint8)))
    cells = [{"bytes": None, "path": str(path)} for path in (own, other, tmp_path / "a.png")]
    features = datasets.Features({"image": datasets.Image()})
    split = datasets.Dataset.from_dict({"image": cells}, features=features)
    serve({"train": split, "test": split})
    data = hub.open_hub("someone/photos").load(Target())
    assert (data.train.images == 5).all() and len(data.train.images) == 1
    assert {each.reason for each in data.skipped} == {"path outside the dataset"}
    assert len(data.skipped) == 4


def test_cifar10_is_counted(serve: Serve, to_png: ToPng) -> None:
    serve({"train": _dataset(to_png, [1, 2]), "test": _dataset(to_png, [3])})
    data = hub.open_hub(hub.CIFAR10).load(Target())
    assert data.name == "CIFAR-10"
    assert data.notes == ("2 of 50,000 training images", "1 of 10,000 test images")


def test_no_train_split_and_no_image_column_are_refused(serve: Serve, to_png: ToPng) -> None:
    serve({"test": _dataset(to_png, [3])})
    with pytest.raises(UserError, match="a/b: expected a train split; the dataset has only test"):
        hub.open_hub("a/b").load(Target())
    serve({"train": _dataset(to_png, [3]).remove_columns("img")})
    with pytest.raises(
        UserError, match="expected a column of images; the columns are title, label"
    ):
        hub.open_hub("a/b").load(Target())


def test_a_hub_error_is_one_line(serve: Serve) -> None:
    serve(ValueError("Config name is missing.\nPlease pick one"))
    with pytest.raises(
        UserError, match=r"a/b: expected a dataset on the Hub; Config name is missing\."
    ) as caught:
        hub.open_hub("a/b").load(Target())
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(UserError, match=r"the Hub cannot be reached.* local copy") as caught:
        hub.open_hub("nobody/has-this-in-a-cache").load(Target())
    assert "\n" not in str(caught.value)
    assert datasets.config.HF_HUB_OFFLINE == before
