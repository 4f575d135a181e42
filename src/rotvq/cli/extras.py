"""The optional extras of the package, and which one to install if a module is missing."""

from __future__ import annotations

from rotvq.errors import installation

EXTRAS = {
    "train": (
        "accelerate", "datasets", "docstring_parser", "filelock", "jinja2", "jsonargparse",
        "matplotlib", "psutil", "pyarrow", "rich", "shtab", "sklearn", "torchmetrics",
    ),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("starlette", "uvicorn"),
    "tensorboard": ("tensorboard",),
}  # fmt: skip
"""The top-level modules that each extra installs."""


def remedy(error: ModuleNotFoundError) -> str | None:
    """A one-line message that names the extra to install; None if the module is in no extra."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return (
                f'expected the extra "{extra}"; {module} is not installed. {installation(extra)}.'
            )
    return None
