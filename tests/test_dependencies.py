"""pyproject.toml, constraints.txt and requirements-dev.lock agree."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rotvq.cli.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items()
}
EACH = [each for lines in REQUIRED.values() for each in lines if each.name != "rotvq"]


def required(extra: str) -> set[str]:
    """The packages that the core and an extra install, with those of the extras it includes."""
    found = {canonicalize_name(each.name) for each in REQUIRED[""]}
    for each in REQUIRED[extra]:
        inner = [required(name) for name in each.extras] if each.name == "rotvq" else []
        found |= set().union(*inner) or {canonicalize_name(each.name)}
    return found


def pinned(name: str) -> dict[str, str]:
    """Versions by package, of a file with lines as numpy==2.0."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): number for package, number in found}


@pytest.mark.parametrize("requirement", EACH, ids=str)
def test_the_version_in_use_of_each_dependency_is_pinned_and_allowed(requirement):
    number = pinned("constraints.txt")[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(number)


def test_the_core_is_what_the_layer_the_model_and_tokens_take():
    assert {each.name for each in REQUIRED[""]} == {
        "torch", "numpy", "pillow", "safetensors", "huggingface_hub", "jaxtyping", "pyyaml",
    }  # fmt: skip


def test_the_command_line_knows_which_modules_an_extra_installs():
    packages = {"docstring_parser": "docstring-parser", "sklearn": "scikit-learn"}
    known = {
        extra: {packages.get(module, module) for module in modules}
        for extra, modules in EXTRAS.items()
    }
    assert known == {extra: {each.name for each in REQUIRED[extra]} for extra in EXTRAS}
    assert {each for extra in EXTRAS for each in known[extra]} <= required("all") <= required("dev")


def test_the_lock_has_the_pinned_versions():
    constraints, lock = pinned("constraints.txt"), pinned("requirements-dev.lock")
    both = constraints.keys() & lock.keys()
    assert {name: lock[name] for name in both} == {name: constraints[name] for name in both}
    assert required("dev") - lock.keys() == {"torch", "triton"}  # differ between machines


@pytest.mark.parametrize("name", ["torch", "filelock", "starlette"])
def test_versions_with_known_vulnerabilities_are_not_allowed(name):
    """In loading checkpoints, creating lock files, and trusting the Host header of a request."""
    last_weak = {"torch": "2.9.1", "filelock": "3.20.0", "starlette": "1.0.0"}[name]
    found = [requirement for requirement in EACH if requirement.name == name]
    assert found and not any(r.specifier.contains(last_weak) for r in found)
    assert Version(version(name)) > Version(last_weak)
