"""The files of the package: no circular imports, none too long to read."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

grimp = pytest.importorskip("grimp", reason="import-linter is not installed")

PACKAGE = Path(__file__).parents[1] / "src/rotvq"
LONGEST = 300


def first_circle(imports: dict[str, set[str]]) -> list[str] | None:
    """One circle among imports by module; None if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_files_import_each_other_in_a_circle():
    """Imports for type checking and imports inside functions count too."""
    graph = grimp.build_graph("rotvq", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 100
    assert first_circle(imports) is None


def test_a_circle_is_found():
    assert first_circle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert set(first_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def test_no_file_is_longer_than_300_lines():
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()
    }
    assert not {name for name, n in lines.items() if n > LONGEST}
