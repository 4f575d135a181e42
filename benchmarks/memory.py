"""Peak extra memory of one contestant; on a CPU, measured in a separate process.

python benchmarks/memory.py NAME MODE N D K prints the peak memory of one call in bytes, without
inputs, codebook and its statistics, output and gradient.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from contestants import CONTESTANTS, Case


def extra(name: str, mode: str, case: Case, device: torch.device) -> int:
    """Peak extra bytes of a call.

    Raises:
        RuntimeError: the process failed; the message ends with its error.
    """
    if device.type == "cuda":
        return _extra(name, mode, case, device)
    sizes = map(str, (case.n, case.d, case.k))
    command = [sys.executable, __file__, name, mode, *sizes]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}, {case}: {done.stderr.strip().splitlines()[-1]}")
    return int(done.stdout)


def main() -> None:
    name, mode, *sizes = sys.argv[1:]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(_extra(name, mode, Case(*map(int, sizes)), device))


def _extra(name: str, mode: str, case: Case, device: torch.device) -> int:
    # The first call loads libraries and fills caches.
    CONTESTANTS[name](Case(256, case.d, 256), mode, device)()
    work = CONTESTANTS[name](case, mode, device)
    before = _restart(device)
    kept = work()
    results = case.n * (4 * case.d + 8) + (4 * case.n * case.d if mode == "step" else 0)
    extra = max(0, _peak(device) - before - results)
    del kept
    return extra


def _restart(device: torch.device) -> int:
    """Reset the peak; return the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
