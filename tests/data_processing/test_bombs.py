"""Small files that unfold to gigabytes: refused, or read within a bound of memory."""

import gzip
import io
import json
import lzma
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measured in /proc")
MEMORY = 450 * 2**20
"""Beyond what the imports take."""

CHILD = """
import json, re, sys
from pathlib import Path
import pyarrow.parquet
from rotvq.data_processing import load
from rotvq.errors import UserError
from rotvq.tokens.file import load_tokens

def peak():
    # What getrusage says is not below the memory of the process that started this one.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

before, found = peak(), {}
for path in map(Path, sys.argv[1:]):
    try:
        if path.name.startswith("tokens"):
            load_tokens(path)
        else:
            load(str(path), size=8)
        message = "read"
    except UserError as error:
        message = str(error)
    found[path.name] = [peak() - before, message]
print(json.dumps(found))
"""

# Without Arrow's own schema, a column of a dictionary is one of bytes again.
OPTIONS = dict(compression="zstd", store_schema=False)


def png():
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    return stream.getvalue()


def sparse_tar(path):
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(2**34)}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)


def repeated(path, value, rows, **columns):
    """A Parquet file of one long value that a dictionary repeats."""
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
    pq.write_table(pa.table({**columns, "image": values}), path, **OPTIONS)


def token_file(path):
    rows = 2000
    values = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, np.int32)), pa.array([bytes(2**23)])
    )
    table = pa.table({"tokens": values, "height": [8] * rows, "width": [8] * rows})
    pq.write_table(table, path, **OPTIONS)


def one_page(path):
    some = pa.array([bytes(2**22)] * 100)
    pq.write_table(pa.table({"image": some}), path, use_dictionary=False, **OPTIONS)


def many_rows(path):
    repeated(path, png(), 5_000_000)


def growing(path):
    """Every value is the one before it and some more."""
    some = pa.array([bytes(2**16 * i) for i in range(1, 64)])
    encoding = {"image": "DELTA_BYTE_ARRAY"}
    table = pa.table({"image": some})
    pq.write_table(table, path, use_dictionary=False, column_encoding=encoding, **OPTIONS)


def extended_header(pack):
    """A pax header of 480 MiB, packed to less than a megabyte."""

    def make(path):
        header = tarfile.TarInfo("a.png")
        header.type, header.size = tarfile.XHDTYPE, 480 * 2**20
        # Packed streams that stand behind each other are one.
        path.write_bytes(pack(header.tobuf(tarfile.PAX_FORMAT)) + pack(bytes(2**24)) * 30)

    return make


BOMBS = {
    "sparse.tar": (sparse_tar, "sparse file"),
    "dictionary.parquet": (lambda path: repeated(path, bytes(2**23), 400), "more room"),
    "page.parquet": (one_page, "would unpack to"),
    "rows.parquet": (many_rows, "images in"),
    "growing.parquet": (growing, "more room"),
    "tokens.parquet": (token_file, "more room"),
    "header.tar.xz": (
        extended_header(lambda data: lzma.compress(data, preset=0)),
        "header of 503,316,480",
    ),
    "header.tar.gz": (
        extended_header(lambda data: gzip.compress(data, 9)),
        "header of 503,316,480",
    ),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Of each: how far memory grew up to it, and what was said."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in BOMBS.items():
        make(folder / name)
        assert (folder / name).stat().st_size < 2**20, name
    words = [sys.executable, "-c", CHILD, *(str(folder / name) for name in BOMBS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_bounded_memory(outcome, name):
    grown, message = outcome[name]
    assert BOMBS[name][1] in message
    assert grown < MEMORY, f"{grown / 2**20:,.0f} MiB"
