import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rotvq.data_processing.unpickle import read_batch
from rotvq.errors import UserError

Write = Callable[..., bytes]
Rows = Callable[..., np.ndarray]


def test_an_official_batch_is_read_exactly(write_official: Write, random_rows: Rows) -> None:
    rows = random_rows(300)
    labels = [i % 10 for i in range(300)]
    batch = read_batch(write_official(rows, labels), "b")
    assert batch.rows.dtype == np.uint8 and np.array_equal(batch.rows, rows)
    assert batch.labels.dtype == np.int64 and batch.labels.tolist() == labels


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", [bytes, str])
def test_a_batch_that_python_3_wrote_is_read(protocol: int, kind: type, random_rows: Rows) -> None:
    keys = (b"data", b"labels") if kind is bytes else ("data", "labels")
    content = dict(zip(keys, (random_rows(3), [0, 9, 5]), strict=True))
    batch = read_batch(pickle.dumps(content, protocol), "b")
    assert np.array_equal(batch.rows, random_rows(3))
    assert batch.labels.tolist() == [0, 9, 5]


class _Command:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_command_in_a_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "ran"
    content = pickle.dumps({b"data": _Command(target), b"labels": []}, protocol)
    with pytest.raises(UserError, match=r"b: expected .*posix.system, which is refused|nt.system"):
        read_batch(content, "b")
    assert not target.exists()
    pickle.loads(content)  # the oracle: unrestricted, it does run
    assert target.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins\neval", "builtins\ngetattr", "__builtin__\neval", "numpy\nload", "numpy\nfromfile",
     "numpy.core.multiarray\nscalar", "os\nsystem", "copyreg\n_reconstructor"],
)  # fmt: skip
def test_every_other_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="which is refused"):
        read_batch(b"\x80\x02c" + name.encode() + b"\n.", "b")


def test_arrays_of_objects_are_refused(random_rows: Rows, write_official: Write) -> None:
    with pytest.raises(UserError, match="uint8 array"):
        read_batch(write_official(random_rows(1), [0], code=b"O8"), "b")
    with pytest.raises(UserError, match="uint8 array"):
        read_batch(pickle.dumps({"data": np.array([[None] * 3072]), "labels": [0]}, 2), "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected a dictionary"),
        ({"labels": [0]}, "entry 'data'"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "entry 'labels'"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [0, 1]}, "1 images and 2 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "labels 0 to 9"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [True]}, "list of integers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": b"\0"}, "list of integers"),
        ({"data": np.zeros((1, 3072), np.int8), "labels": [0]}, "uint8 array"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [0]}, "uint8 array"),
        ({"data": np.zeros((2, 3072), np.uint8, "F"), "labels": [0, 0]}, "uint8 array"),
        ({"data": b"\0" * 3072, "labels": [0]}, "uint8 array"),
    ],
)
def test_other_content_is_refused(content: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^b: expected a CIFAR-10 batch; .*{message}"):
        read_batch(pickle.dumps(content, 2), "b")


def test_a_batch_cut_anywhere_is_refused(write_official: Write, random_rows: Rows) -> None:
    content = write_official(random_rows(2), [1, 2])
    for end in [*range(0, 200), *range(200, len(content), 97), len(content) - 1]:
        with pytest.raises(UserError, match="b: expected a CIFAR-10 batch"):
            read_batch(content[:end], "b")


def test_noise_never_gives_anything_but_a_user_error() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        with pytest.raises(UserError):
            read_batch(b"\x80\x02" + generator.bytes(40), "b")
