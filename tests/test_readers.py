"""Untrusted files are read, or refused in one line. `make fuzz` tries many more of them."""

import io
import json
import os
import shutil
import zipfile
import zlib
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import readers
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotvq.errors import UserError
from rotvq.model.vqvae import MAX_STAGES
from rotvq.report import style
from rotvq.training.build import load_model
from rotvq.training.config import Config, ModelConfig


@pytest.fixture(scope="module", params=readers.READERS)
def reader(request):
    """Its function, the path it reads, and contents that it takes."""
    name = request.param
    if name == "run":
        monkeypatch = pytest.MonkeyPatch()
        request.addfinalizer(monkeypatch.undo)
        monkeypatch.setattr(style, "png", lambda figure: b"")
    folder = readers.place(name)
    yield readers.READERS[name], folder / name, readers.whole(name)
    shutil.rmtree(folder)


def read(name, content):
    path = readers.place(name) / name
    path.write_bytes(content)
    try:
        readers.READERS[name](path)
    finally:
        shutil.rmtree(path.parent)


def test_whole_files_are_taken(reader):
    function, path, contents = reader
    assert contents
    for content in contents:
        readers.put(path, content)
        function(path)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_in_one_line(reader, data):
    function, path, contents = reader
    content = bytearray(data.draw(st.sampled_from(contents)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["change", "cut", "insert"]))
        if kind == "change":
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(max_size=8))
        elif len(content) > 1:
            del content[place : place + data.draw(st.integers(1, 64))]
            content = content or bytearray(b"\0")
    readers.put(path, bytes(content))
    try:
        function(path)
    except UserError as error:
        assert "\n" not in str(error)


# ------------------------------------------------------------- what fuzzing and reading found


def npz(**changes):
    """A token file of one image, with parts changed; None leaves one out."""
    header = {
        "format": "rotvq tokens", "version": 1, "model": "0" * 16, "codebook_size": 1024,
        "stride": 4, "channels": 3,
    }  # fmt: skip
    arrays = {"tokens": np.zeros(5, np.uint8), "sizes": np.array([[1, 8, 8]], np.uint32)}
    for name, value in changes.items():
        (header if name in header else arrays)[name] = value
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_the_file_that_is_changed_below_is_whole():
    read("tokens.npz", npz())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Four billion images of no height, which take no bytes.
        (
            {"sizes": np.array([[1, 8, 8], [2**32 - 1, 0, 8]], np.uint32)},
            "its sizes do not match its tokens",
        ),
        ({"stride": 0}, "stride 0"),
        ({"stride": -4}, "stride -4"),
        ({"codebook_size": 2**70}, f"{2**70},"),
        ({"channels": 7}, "7 channels"),
        # A gigabyte of names in a megabyte: the list is cut short.
        (
            {"names": np.frombuffer(zlib.compress(b"[" + b" " * 2**30 + b"]", 1), np.uint8)},
            "Expecting value",
        ),
        ({"names": np.frombuffer(zlib.compress(b"[3]"), np.uint8)}, "a name has the wrong type"),
        # Counts that sum to a plausible number of images.
        (
            {"sizes": np.array([[2**33, 1, 1], [-(2**33), 1, 1], [1, 8, 8]])},
            "its arrays have other types",
        ),
        ({"tokens": np.zeros(2**30, "V0")}, "its arrays have other types"),
        ({"tokens": np.zeros(5, np.int64)}, "its arrays have other types"),
        ({"sizes": np.array([[1.5, 8, 8]])}, "its arrays have other types"),
    ],
    ids=str,
)
def test_token_files_with_inconsistent_contents_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        read("tokens.npz", npz(**changes))


def test_compressed_token_arrays_are_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as old:
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="compressed"):
        read("tokens.npz", content.getvalue())


def test_a_zip_version_to_come_is_refused():
    content = bytearray(npz())
    entry = content.find(b"PK\1\2")
    content[entry + 6] = 255  # version needed to extract
    with pytest.raises(UserError, match="zip file version"):
        read("tokens.npz", bytes(content))


def test_a_parquet_file_of_tokens_that_unfolds_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"tokens": [bytes(2**27)], "height": [8], "width": [8]})
    pq.write_table(table, path, compression="zstd")
    with pytest.raises(UserError, match="would unpack to 134,217,732"):
        read("tokens.parquet", path.read_bytes())


def test_a_parquet_file_of_one_long_name_for_all_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    rows = 1000
    columns = {"tokens": [b""] * rows, "height": [8] * rows, "width": [8] * rows}
    pq.write_table(pa.table(columns | {"name": ["n" * 2**18] * rows}), path, compression="zstd")
    with pytest.raises(UserError, match="far more room"):
        read("tokens.parquet", path.read_bytes())


def test_heights_that_are_not_integers_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"tokens": [bytes(5)], "height": [8.0], "width": [8.0]}), path)
    with pytest.raises(UserError, match="not integers"):
        read("tokens.parquet", path.read_bytes())


@pytest.mark.parametrize("text", ["[" * 50_000, "model: " + "{a: " * 20_000])
def test_a_deeply_nested_configuration_is_refused(text):
    with pytest.raises(UserError, match="expected YAML; maximum recursion depth"):
        read("config.yaml", text.encode())


def test_a_configuration_of_aliases_of_aliases_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    groups = yaml.safe_dump({"data": {}, "model": {}, "quantizer": {}})
    text = "\n".join([*lines, groups, "training: {epochs: *a11}"])
    with pytest.raises(UserError, match="alias"):
        read("config.yaml", text.encode())


def test_long_values_are_shortened_in_messages():
    groups = {"data": {}, "model": {}, "quantizer": {}, "training": {"epochs": [["x" * 999] * 99]}}
    with pytest.raises(UserError, match="epochs") as error:
        read("config.yaml", yaml.safe_dump(groups).encode())
    assert len(str(error.value)) < 3000


@pytest.mark.parametrize(
    ("levels", "message"), [([70] * 5, "expected dim="), ([3] * 40, "fewer than 2")]
)
def test_a_grid_is_checked_without_being_listed(levels, message):
    described = json.loads(readers.whole("config.json")[0])
    described["quantizer"] = {"kind": "finite scalar", "levels": levels}
    with pytest.raises(UserError, match=message):
        read("config.json", json.dumps(described).encode())


def test_a_run_whose_configuration_needs_more_than_its_weights_is_refused(tmp_path):
    config = Config().replace(model={"width": 50_000})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    (tmp_path / "model.safetensors").write_bytes(readers.whole("model.safetensors")[0])
    with pytest.raises(UserError, match="size mismatch"):
        load_model(tmp_path)


def nested_key():
    """A batch with a key of tuples of tuples, 60 deep."""
    yield from (b"\x80\x02", b"}", b"K\x01\x85q\x00")
    for level in range(60):
        yield b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    yield b"K\x01s."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "more memory"),  # a memo of two billion places
        (b"\x80\x02]p99999999999\n.", "more memory"),
        (b"".join(nested_key()), "its nesting is not that of a batch"),
        (b"\x80\x02c_codecs\nencode\n](K\x01K\x02e\x85R.", "its bytes are not written as text"),
    ],
)
def test_batches_that_exhaust_memory_or_time_are_refused(content, message):
    with pytest.raises(UserError, match=f"data_batch_1.*{message}"):
        read("data_batch_1", content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 2**30}, "expected the arguments of a model"),
        ({"depth": 10**9}, "model.depth: expected 0 to 1000; got 1000000000"),
        ({"dim": -1}, "model.dim: expected 0 to .*; got -1"),
        ({"width": 2**80}, "expected JSON"),
        ({"stages": 60}, "model.stages: expected at most 8; got 60"),
        ({"stages": 9}, "model.stages: expected at most 8; got 9"),
    ],
)
def test_a_model_too_large_for_any_machine_is_refused(change, message):
    described = json.loads(readers.whole("config.json")[0])
    described["model"] |= change
    with pytest.raises(UserError, match=message):
        read("config.json", json.dumps(described).encode())


def test_a_model_may_have_as_many_stages_as_a_run():
    """More of them make tokens of more pixels than memory holds."""
    assert ModelConfig(stages=MAX_STAGES).stages == 8
    with pytest.raises(UserError, match="stages: expected 1 to 8; got 9"):
        ModelConfig(stages=9)


def test_a_parquet_file_with_a_column_name_that_is_not_text_is_refused():
    content = readers.whole("train-0.parquet")[0].replace(b"bytes", b"\x9c\xffyte")
    with pytest.raises(
        UserError, match=r"expected a Parquet file; it cannot be read: .* codec can't decode"
    ):
        read("train-0.parquet", content)


def test_a_parquet_file_with_paths_of_no_text_is_read():
    image = {"bytes": readers.pictures("PNG")[0], "path": "pppppppp"}
    file = io.BytesIO()
    table = pa.table({"img": [image] * 12, "label": [1] * 12})
    pq.write_table(table, file, compression="none", use_dictionary=False)
    content = file.getvalue()
    assert b"pppppppp" in content
    read("train-0.parquet", content.replace(b"pppppppp", b"\xffppppppp"))


@pytest.mark.parametrize("path", ["pipe.png", "/dev/zero"])
def test_a_pipe_or_device_named_in_a_parquet_file_is_not_opened(path):
    folder = readers.place("train-0.parquet")
    os.mkfifo(folder / "pipe.png")
    whole = {"bytes": readers.pictures("PNG")[0], "path": "a"}
    images = [whole, *[{"bytes": None, "path": path}] * 11]
    pq.write_table(pa.table({"img": images, "label": [1] * 12}), folder / "train-0.parquet")
    try:
        with pytest.raises(UserError, match=rf"path outside the dataset, .*\({path}\)"):
            readers.READERS["train-0.parquet"](folder / "train-0.parquet")
    finally:
        shutil.rmtree(folder)
