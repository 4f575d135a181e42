"""Nothing leaves the machine unless it is asked to."""

import os
import subprocess
import sys

import pytest

WATCHED = """
import sys
asked = []
sys.addaudithook(
    lambda event, arguments: asked.append((event, arguments))
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto")
    else None
)
from rotvq.cli.main import main
status = main(sys.argv[1:])
assert not asked, asked
sys.exit(status)
"""


def watched(*words):
    return subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_hook_sees_who_looks_up_a_name():
    done = watched("train", "--data", "someone/something", "--out", "/nowhere/to/be/found")
    assert done.returncode == 1 and "socket" in done.stderr


@pytest.mark.parametrize("verb", ["doctor", "train"])
def test_no_connection_is_opened(tmp_path, verb):
    out = tmp_path / "run"
    words = {
        "doctor": ["doctor"],
        "train": [
            *"train --preset smoke --data.train_images 64 --data.test_images 16".split(),
            *"--model.width 8 --model.dim 8 --training.batch_size 32".split(),
            *("--training.epochs", 1, "--out", out),
        ],
    }[verb]
    done = watched(*words)
    assert done.returncode == 0, done.stderr
    if verb == "train":
        for words in (["evaluate", out], ["report", out], ["export", out, "--to", "model"]):
            extra = ["--out", tmp_path / "model"] if words[0] == "export" else []
            done = watched(*words, *extra)
            assert done.returncode == 0, done.stderr
