"""The package as a whole: lazy names, quick help, examples that run."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import rotvq
from rotvq import model, quantization


def in_a_fresh_interpreter(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_imports_neither_torch_nor_numpy():
    heavy = ("torch", "numpy", "PIL", "huggingface_hub")
    code = f"import sys, rotvq; print([n for n in {heavy} if n in sys.modules])"
    assert in_a_fresh_interpreter(code) == ["[]"]


def test_every_public_name_is_listed_once_and_comes_from_its_module():
    listed = [name for names in rotvq._MODULES.values() for name in names]
    assert sorted(listed) == sorted(set(rotvq.__all__) - {"__version__"})
    for module, names in rotvq._MODULES.items():
        for name in names:
            assert getattr(rotvq, name) is getattr(import_module(f"rotvq.{module}"), name)


def test_type_checkers_see_every_public_name_from_the_same_module():
    tree = ast.parse(Path(rotvq.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (str(each.module), name.name)
        for each in checked.body
        if isinstance(each, ast.ImportFrom)
        for name in each.names
    }
    assert seen == {(f"rotvq.{m}", name) for m, names in rotvq._MODULES.items() for name in names}


def test_the_public_surface_is_complete():
    """What a user imports, and every public quantizer."""
    for name in ("encode_images", "decode_images", "load_tokens", "save_tokens", "VQVAE"):
        assert name in rotvq.__all__
    quantizers = {name for name in dir(quantization) if name.endswith("Quantizer")}
    assert len(quantizers) == 8 and quantizers <= set(rotvq.__all__)


def test_dir_shows_the_public_names_alone_before_and_after_they_are_used():
    code = "import rotvq; print(*dir(rotvq)); rotvq.VQVAE; print(*dir(rotvq))"
    names = in_a_fresh_interpreter(code)
    assert names == sorted(rotvq.__all__) * 2


def test_from_import_works():
    code = (
        "from rotvq import VQVAE, VectorQuantizer; print(VQVAE.__name__, VectorQuantizer.__name__)"
    )
    assert in_a_fresh_interpreter(code) == ["VQVAE", "VectorQuantizer"]


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'rotvq' has no attribute 'nonsense'"):
        _ = rotvq.nonsense
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from rotvq import nonsense  # noqa: F401
    assert not hasattr(rotvq, "_private")


def test_the_version_is_the_installed_ones():
    from importlib.metadata import version

    assert rotvq.__version__ == version("rotvq")
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {rotvq.__version__}\n" in citation


@pytest.mark.parametrize("thing", [quantization.VectorQuantizer, model.VQVAE])
def test_examples_run(thing):
    tests = doctest.DocTestFinder(recurse=False).find(
        thing,
        globs={
            "torch": torch,
            "VectorQuantizer": quantization.VectorQuantizer,
            "VQVAE": model.VQVAE,
        },
    )
    assert sum(len(test.examples) for test in tests) >= 3
    runner = doctest.DocTestRunner()
    for test in tests:
        assert runner.run(test).failed == 0


def test_python_dash_m_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "rotvq", "--version"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, f"rotvq {rotvq.__version__}\n")
