"""The environment of a run: device, precision, versions, state of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rotvq import processor
from rotvq.errors import UserError


def resolve_precision(precision: str, device: torch.device) -> str:
    """Resolve "auto" to bf16 if the hardware supports it, else fp32; other names are kept.

    Raises:
        UserError: fp16 on a CPU, where gradients would underflow.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UserError(
            "training.precision: expected fp32 or bf16 on a CPU; got fp16. Use auto to let "
            "RotVQ choose."
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and processor.has_bf16() else "fp32"


def default_device() -> torch.device:
    """The GPU or other accelerator of this machine, or else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def hardware(device: torch.device) -> dict[str, Any]:
    """Device and its name, CPU cores, threads that torch uses, and the number of processes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    found = {
        "device": device.type,
        "name": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if dist.is_available() and dist.is_initialized():
        found["processes"] = dist.get_world_size()
    return found


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the numbers."""
    found = {"python": platform.python_version()}
    for package in ("torch", "numpy", "accelerate", "torchmetrics", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the running checkout and whether it has uncommitted changes; None without one."""

    # An installed copy may be inside an untrusted project: git must not run its hooks or lock its
    # index. GIT_* variables, as set in a git hook, may point to another repository.
    settings = ["core.fsmonitor=false", f"core.hooksPath={os.devnull}"]
    plain = ["git", "--no-optional-locks", *(word for s in settings for word in ("-c", s))]
    variables = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}

    def git(*arguments: str) -> str:
        command = [*plain, "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10, env=variables
        ).stdout.strip()

    try:
        # Only if this file is tracked.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
