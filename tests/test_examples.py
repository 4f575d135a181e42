"""The examples run, as a reader would run them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rotvq

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


NOTEBOOK = Path(__file__).parents[1] / "examples/notebook.ipynb"
EXECUTED = """
import json, sys
import matplotlib
matplotlib.use("agg")
names = {}
for number, cell in enumerate(json.load(sys.stdin)):
    exec(compile(cell, f"cell {number}", "exec"), names)
print("curves", len(names["plt"].get_fignums()))
"""


def test_the_notebook_runs(tmp_path):
    """Its cells in order, with a small model, as the bundled ones are not in every checkout."""
    pytest.importorskip("pandas")
    torch.manual_seed(0)
    quantizer = rotvq.VectorQuantizer(20, 8, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    rotvq.VQVAE(width=8, dim=8, depth=1, quantizer=quantizer).save_pretrained(tmp_path / "model")
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells)
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert '"rotvq-f4"' in code[0]
    code[0] = code[0].replace("rotvq-f4", str(tmp_path / "model"))
    done = subprocess.run(
        [sys.executable, "-c", EXECUTED],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, input=json.dumps(code),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "curves 4"
    assert (tmp_path / "runs/first/epochs.csv").exists()
