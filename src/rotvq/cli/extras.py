"""The optional extras of the package, and which one to install if a module is missing."""

from __future__ import annotations

from importlib.util import find_spec

from rotvq.errors import installation

EXTRAS = {
    "train": (
        "accelerate", "datasets", "docstring_parser", "filelock", "jinja2", "jsonargparse",
        "matplotlib", "psutil", "pyarrow", "rich", "shtab", "sklearn", "torchmetrics",
    ),
    "generate": ("transformers",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("sklearn", "starlette", "uvicorn"),
    "tensorboard": ("tensorboard",),
}  # fmt: skip
"""The top-level modules that each extra installs."""


def remedy(error: ModuleNotFoundError) -> str | None:
    """Which extra to install, in one line.

    None for a module that belongs to no extra, or for a submodule of an installed one: a bug.
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules and find_spec(module) is None:
            return (
                f'expected the extra "{extra}"; {module} is not installed. {installation(extra)}.'
            )
    return None
