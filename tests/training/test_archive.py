"""What torch.save wrote and someone changed: refused before it takes memory or runs anything."""

from __future__ import annotations

import io
import pickle
import resource
import zipfile
from collections import OrderedDict

import pytest
import torch
from sealed import repacked

from rotvq.training import archive
from rotvq.training.archive import read

CONTENT = {"weights": OrderedDict(a=torch.arange(6.0).view(2, 3).t()), "text": "γ", "n": [1, None]}


def saved(content=CONTENT) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_plain_content_loads_unchanged():
    found = read(io.BytesIO(saved() + b"a checksum"))
    assert torch.equal(found["weights"]["a"], CONTENT["weights"]["a"])
    assert found["weights"]["a"].stride() == (1, 3)
    assert (found["text"], found["n"]) == ("γ", [1, None])


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8,
     torch.bool, torch.int32],
)  # fmt: skip
def test_every_dtype_loads_unchanged(dtype):
    t = torch.ones(3, dtype=dtype)
    assert torch.equal(read(io.BytesIO(saved(t))), t)


def test_records_that_are_compressed_are_refused_before_they_unfold():
    bomb = repacked(saved(), {"data/0": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**19
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="compressed"):
        read(io.BytesIO(bomb))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB


def test_records_that_share_their_bytes_are_refused():
    """A directory may name the same bytes many times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data/0", bytes(10_000))
        whole = made.infolist()[0]
        for number in range(1, 1000):
            made.filelist.append(again := zipfile.ZipInfo(f"archive/data/{number}"))
            again.file_size = again.compress_size = 10_000
            again.CRC, again.header_offset = whole.CRC, whole.header_offset
    with pytest.raises(ValueError, match="overlap"):
        read(file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused():
    file = io.BytesIO(saved())
    with zipfile.ZipFile(file, "a") as made:
        made.writestr("archive/data.pkl", b"other")
    with pytest.raises(ValueError, match="one name"):
        read(file)


def test_more_plain_values_than_a_run_has_are_refused(monkeypatch):
    monkeypatch.setattr(archive, "LARGEST_PICKLE", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        read(io.BytesIO(saved()))


@pytest.mark.parametrize("size", [0, 4, 23, 25, 10_000])
def test_a_record_of_another_length_than_its_tensor_is_refused(size):
    with pytest.raises(RuntimeError, match="size"):
        read(io.BytesIO(repacked(saved(), {"data/0": bytes(size)})))


@pytest.mark.parametrize(
    ("named", "pickled"),
    [
        ("posix system", pickle.dumps(__import__("os").system, 2)),
        ("__builtin__ bytearray", b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R."),
        # Each round doubles the text.
        ("_codecs encode", b"\x80\x02" + b"c_codecs\nencode\n" * 40 + b"C\1ax\3\0\0\0hex\x86R."),
        ("_rebuild_sparse", b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R."),
        ("_rebuild_nested", b"\x80\x02ctorch._utils\n_rebuild_nested_tensor\n)R."),
        ("_rebuild_qtensor", b"\x80\x02ctorch._utils\n_rebuild_qtensor\n)R."),
        ("_rebuild_parameter", b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R."),
        ("names None", b"\x80\x04\x8c\x02os\x8c\x06system\x93."),
    ],
)
def test_names_other_than_those_of_tensors_are_refused(named, pickled):
    with pytest.raises(ValueError, match=named):
        read(io.BytesIO(repacked(saved(), {"data.pkl": pickled})))


def test_content_that_torch_warns_about_is_read_without_warnings(recwarn):
    (name,) = (n for n in zipfile.ZipFile(io.BytesIO(saved())).namelist() if n.endswith("data.pkl"))
    pickled = zipfile.ZipFile(io.BytesIO(saved())).read(name)
    read(io.BytesIO(repacked(saved(), {"data.pkl": b"\x80\x04" + pickled[2:]})))
    assert not [*recwarn]
