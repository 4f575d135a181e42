"""What pyproject.toml, constraints.txt and requirements-dev.lock say of one another."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items()
}
EACH = [requirement for lines in REQUIRED.values() for requirement in lines]


def pinned(name: str) -> dict[str, str]:
    """Versions by package, of a file with lines as numpy==2.0."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): number for package, number in found}


@pytest.mark.parametrize("requirement", EACH, ids=str)
def test_the_version_in_use_of_each_dependency_is_pinned_and_allowed(requirement):
    number = pinned("constraints.txt")[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(number)


def test_the_lock_has_the_pinned_versions():
    constraints, lock = pinned("constraints.txt"), pinned("requirements-dev.lock")
    both = constraints.keys() & lock.keys()
    assert {name: lock[name] for name in both} == {name: constraints[name] for name in both}
    wanted = {canonicalize_name(r.name) for extra in ("", "dev") for r in REQUIRED[extra]}
    assert wanted - lock.keys() == {"torch", "triton"}  # differ between machines


@pytest.mark.parametrize("name", ["torch", "filelock", "starlette"])
def test_versions_with_known_weaknesses_are_not_allowed(name):
    """In reading checkpoints, in making lock files, and in what a request says of its host."""
    last_weak = {"torch": "2.9.1", "filelock": "3.20.0", "starlette": "1.0.0"}[name]
    found = [requirement for requirement in EACH if requirement.name == name]
    assert found and not any(r.specifier.contains(last_weak) for r in found)
    assert Version(version(name)) > Version(last_weak)
