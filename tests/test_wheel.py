"""The distributions: what they hold, and a wheel installed on its own and used elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotvq import bundled

pytest.importorskip("build", reason="build is not installed")
pytest.importorskip("hatchling", reason="hatchling is not installed")

ROOT = Path(__file__).parents[1]
NO_REGISTRY = (
    r"(?i)NewConnectionError|(Connect|Read)Timeout|name.?resolution|No route to host|unreachable"
    r"|ProxyError"
)
USE = """
import sys
import torch
import rotvq
from rotvq import VQVAE, VectorQuantizer

assert rotvq.__file__.startswith(sys.prefix), rotvq.__file__
quantized = VectorQuantizer(16, 8)(torch.randn(4, 9, 8))
assert quantized.z_q.shape == (4, 9, 8)
VQVAE(width=8, dim=8, depth=1, quantizer=VectorQuantizer(16, 8, channel_dim=1)).save_pretrained("m")
model = VQVAE.from_pretrained("m")
indices = model.encode(torch.zeros(1, 3, 32, 32))
assert model.decode(indices).shape == (1, 3, 32, 32)
"""


def call(*words, cwd):
    """Run a command without this environment's paths; fails with what it printed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, cwd=cwd, env=inherited
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, a wheel from it and, in `direct`, a wheel from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
    for words in ([folder], [folder / "direct", "--wheel"]):
        status, _, error = call(*build, *words, ROOT, cwd=folder)
        assert status == 0, error
    return folder


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """The programs of a new environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    assert call(sys.executable, "-m", "venv", folder, cwd=folder)[0] == 0
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = built.glob("*.whl")
    pip = (programs / "pip", "install", "-c", ROOT / "constraints.txt", wheel)
    status, _, error = call(*pip, cwd=folder)
    if status and re.search(NO_REGISTRY, error):
        pytest.skip("no package registry can be reached")
    assert status == 0, error
    return programs


def contents(wheel):
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_from_the_sdist_is_the_wheel_from_the_checkout(built):
    (from_sdist,), (direct,) = built.glob("*.whl"), (built / "direct").glob("*.whl")
    assert contents(from_sdist) == contents(direct)


def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = set(contents(wheel))
    package = {f"rotvq/{path.relative_to(ROOT / 'src/rotvq').as_posix()}" for path in sources()}
    assert {name for name in names if ".dist-info/" not in name} == package


def sources():
    """The files of the package in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/rotvq"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).exists()]


def test_the_sdist_holds_only_what_a_wheel_takes(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    others = {name for name in names if not name.startswith("src/rotvq/")}
    assert others == {
        ".gitignore", "LICENSE", "PKG-INFO", "README.md", "constraints.txt", "pyproject.toml",
    }  # fmt: skip
    models = sum(file.stat().st_size for file in bundled.FOLDER.rglob("*") if file.is_file())
    assert path.stat().st_size < 2**20 + models


def test_an_installed_wheel_works_without_extras_in_another_folder(environment, tmp_path):
    status, _, error = call(environment / "python", "-c", USE, cwd=tmp_path)
    assert (status, error) == (0, "")
    (tmp_path / "images").mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{seed}.png")
    for words in (
        ["--help"],
        ["encode", "images", "--model", "m", "-o", "tokens.npz"],
        ["decode", "tokens.npz", "--model", "m", "-o", "decoded"],
        ["reconstruct", "images", "--model", "m", "-o", "reconstructed"],
        *([["reconstruct", "images/0.png"]] if bundled.names() else []),
    ):
        status, _, error = call(environment / "rotvq", *words, cwd=tmp_path)
        assert (status, error) == (0, ""), words
    for name in ("0.png", "1.png", "2.png"):
        decoded, reconstructed = (tmp_path / d / name for d in ("decoded", "reconstructed"))
        assert decoded.read_bytes() == reconstructed.read_bytes()
        with Image.open(decoded) as image:
            assert image.size == (24, 20)


def test_an_installed_wheel_names_the_extra_that_training_takes(environment, tmp_path):
    status, out, error = call(environment / "rotvq", "train", "--preset", "smoke", cwd=tmp_path)
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert "pip install 'rotvq[train]'" in error
