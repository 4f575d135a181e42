"""The examples run, as a reader would run them."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "-> tokens" in done.stdout.splitlines()[-1]
    errors = [
        float(line.split("MSE ")[1].split()[0].rstrip(","))
        for line in done.stdout.splitlines()
        if "MSE" in line
    ]
    assert errors[-1] < errors[0] / 1.5
