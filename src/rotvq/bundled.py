"""The trained models that ship with the package, by name: one folder each in `rotvq/weights`.

A folder holds what `VQVAE.save_pretrained` writes, and a model card. Free of torch.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FOLDER = Path(str(files("rotvq"))) / "weights"

DEFAULT = "rotvq-f4"
"""The model of commands that are given none."""


def names() -> list[str]:
    """The bundled models; empty in a checkout without weights."""
    return sorted(path.name for path in FOLDER.glob("*/") if (path / "config.json").is_file())


def find(name: str | Path) -> Path | None:
    """The folder of a bundled model; None if a name, or any path, is not that of one."""
    return FOLDER / name if isinstance(name, str) and name in names() else None


def listed() -> str:
    """The names for an error message."""
    return ", ".join(names()) or "none in this installation: train one with rotvq train"
