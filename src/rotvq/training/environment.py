"""What a run runs on: device, precision, versions, code state."""

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
    """What "auto" means: bf16 where the hardware has it, else fp32; other names unchanged.

    Raises:
        UserError: fp16 on a processor, whose gradients it would flush to zero unscaled.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UserError(
            "training.precision: expected fp32 or bf16 on a CPU; got fp16. Use auto to let the "
            "hardware decide."
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and processor.has_bf16() else "fp32"


def accelerator() -> torch.device:
    """The GPU or its like, or the CPU where there is none."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def hardware(device: torch.device) -> dict[str, Any]:
    """Device, its name, cores of this machine, threads that torch uses, processes if several."""
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
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("torch", "numpy", "accelerate", "torchmetrics"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout that this package runs from and whether it was changed, or None."""

    # An installed copy may lie inside a project that is not trusted: git runs none of its programs
    # and takes no lock of its index. What a hook that started us has set names another repository.
    settings = ["core.fsmonitor=false", f"core.hooksPath={os.devnull}"]
    plain = ["git", "--no-optional-locks", *(word for s in settings for word in ("-c", s))]
    variables = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}

    def git(*arguments: str) -> str:
        command = [*plain, "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10, env=variables
        ).stdout.strip()

    try:
        # Is this file one of the checkout's?
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
