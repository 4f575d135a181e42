"""Without an extra: what works, and what names the extra in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from rotvq import VQVAE, VectorQuantizer
from rotvq.cli.extras import EXTRAS, remedy

WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from rotvq.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
# torch and huggingface_hub install these two as well.
TRAIN = set(EXTRAS["train"]) - {"filelock", "jinja2"}
ALL = TRAIN.union(*(EXTRAS[extra] for extra in EXTRAS if extra != "train"))


@pytest.fixture
def without(tmp_path, images):
    """Run a command in a folder with a model and images, in a process without some modules."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 8, channel_dim=1)
    VQVAE(width=8, dim=8, depth=1, quantizer=quantizer).save_pretrained(tmp_path / "model")
    (tmp_path / "images").symlink_to(images / "test")

    def run(modules, *words):
        command = [sys.executable, "-c", WITHOUT, ",".join(modules), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)

    return run


def test_images_are_coded_without_any_extra(without, tmp_path):
    for words in (
        ["encode", "images", "--model", "model", "-o", "tokens.npz"],
        ["encode", "images", "--model", "model", "-o", "tokens.safetensors"],
        ["decode", "tokens.npz", "--model", "model", "-o", "decoded"],
        ["reconstruct", "images", "--model", "model", "-o", "reconstructed"],
    ):
        done = without(ALL, *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert " 12 images " in done.stdout
    for folder in ("decoded", "reconstructed"):
        assert len(list((tmp_path / folder).iterdir())) == 12


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["train", "--preset", "smoke"], "train"),
        (["demo"], "train"),
        (["evaluate", "model"], "train"),
        (["reproduce", "table3"], "train"),
        (["ablate", "best"], "train"),
        (["classifier"], "train"),
        (["report", "model"], "train"),
        (["completion", "bash"], "train"),
        (["encode", "photos", "--model", "model", "-o", "tokens.npz"], "train"),
        (["encode", "images", "--model", "model", "-o", "new.parquet"], "train"),
        (["decode", "tokens.parquet", "--model", "model", "-o", "decoded"], "train"),
        (["sample", "model", "-o", "samples"], "generate"),
        (["serve", "model"], "serve"),
        (["export", "model", "--to", "onnx", "-o", "exported"], "onnx"),
    ],
)
def test_a_command_without_its_extra_says_which_in_one_line(without, tmp_path, words, extra):
    (tmp_path / "tokens.parquet").write_bytes(b"PAR1")
    done = without(ALL if extra == "train" else EXTRAS[extra], *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("rotvq: ")
    assert f"pip install 'rotvq[{extra}]'" in done.stderr
    assert not (tmp_path / "new.parquet").exists()


def test_doctor_names_the_missing_extras(without):
    done = without(ALL, "doctor")
    assert (done.returncode, done.stderr) == (1, "")
    for extra in EXTRAS:
        assert f"extra      {extra}: no {EXTRAS[extra][0]}" in done.stdout
    assert "embedded:photos: not usable" in done.stdout


@pytest.mark.parametrize("name", ["torch.nonsense", "pyarrow.nonsense", "nonsense", None])
def test_a_module_of_no_extra_has_no_remedy(name):
    assert remedy(ModuleNotFoundError("gone", name=name)) is None


@pytest.mark.parametrize("name", ["pyarrow", "pyarrow.parquet"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert remedy(ModuleNotFoundError("gone", name=name)) == (
        "expected the extra \"train\"; pyarrow is not installed. Run pip install 'rotvq[train]'."
    )


def test_exporting_programs_needs_its_own_extra_alone(without, tmp_path):
    words = ("export", "model", "--to", "onnx", "-o", "exported")
    done = without(ALL - set(EXTRAS["onnx"]), *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exported/encoder.onnx").is_file()
    assert "random images" in " ".join(done.stdout.split())
