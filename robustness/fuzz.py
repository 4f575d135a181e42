"""Fuzz every reader of untrusted files, guided by coverage (atheris).

Each reader gets mutations of valid files. It may read them or raise a UserError. Any other
exception is a failure, and so is a reader that hangs, exceeds the memory limit, starts a program,
opens a connection, or writes or removes a file.

    python robustness/fuzz.py [READER ...] [--inputs 12000] [--out results/robustness]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["rotvq"]):
    import readers
    import runs

import torch

from rotvq.errors import UserError
from rotvq.files import write_json
from rotvq.training import environment

SECONDS = 20
"""Time limit for one input."""

MEMORY = 4096
"""Memory limit of the process in MiB."""

LENGTH = 1 << 16
"""Maximum bytes of an input."""

FORBIDDEN = {
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen",
    "socket.connect", "os.remove", "os.rmdir", "shutil.rmtree", "os.rename", "ctypes.dlopen",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(readers.READERS))
    parser.add_argument("--inputs", type=int, default=12_000, help="inputs per reader")
    parser.add_argument("--out", type=Path, default=Path("results/robustness"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _fuzz(options.inside[0], options.inside[1:])
    rows = [_run(name, options.inputs, options.seed) for name in options.readers or readers.READERS]
    record = {
        "what": "fuzzed inputs of the file readers; a crash, a hang or a side effect ends the run",
        "readers": rows,
        "inputs": sum(row["inputs"] for row in rows),
        "crashes": 0,
        "seed": options.seed,
        "hardware": environment.hardware(torch.device("cpu")),
        "versions": environment.versions() | {"atheris": version("atheris")},
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "fuzz.json", record)
    print(f"{record['inputs']:,} inputs to {len(rows)} readers; no failures.")


def _run(name: str, inputs: int, seed: int) -> dict[str, Any]:
    """Fuzz one reader in a separate process."""
    since = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        for i, content in enumerate(readers.whole(name)):
            (Path(place) / f"whole_{i}").write_bytes(content)
        command = [sys.executable, __file__, "--inside", name, place, f"-runs={inputs}"]
        command += [f"-seed={seed}", f"-rss_limit_mb={MEMORY}", f"-timeout={SECONDS}"]
        command += [
            f"-max_len={LENGTH}",
            "-len_control=0",
            "-artifact_prefix=fuzz_",
            "-verbosity=1",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Done (\d+) runs", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{name}: the reader failed; the input is in fuzz_*.\n{done.stderr[-3000:]}")
    taken = re.findall(r"rss: (\d+)Mb", done.stderr)
    row = {
        "reader": name,
        "inputs": int(found[1]),
        "seconds": round(time.monotonic() - since),
        "memory_mib": max(map(int, taken), default=0),
    }
    print(
        f"{name}: {row['inputs']:,} inputs, {row['seconds']} s, {row['memory_mib']} MiB", flush=True
    )
    return row


def _fuzz(name: str, words: list[str]) -> None:
    torch.set_num_threads(1)
    runs.without_drawing()
    read = readers.READERS[name]
    guarding = False

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1].strip("rbt")
        if guarding and (event in FORBIDDEN or writes):
            raise SystemError(f"an input made the reader call {event} {arguments}")

    path = readers.place(name) / name

    def one(content: bytes) -> None:
        nonlocal guarding
        readers.put(path, content)
        guarding = True
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error)
        finally:
            guarding = False

    sys.addaudithook(guard)
    atheris.Setup([sys.argv[0], *words], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
