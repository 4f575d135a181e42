"""rotvq doctor: what this machine and installation can do, and what is missing."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from rotvq import __version__
from rotvq.cli import extras
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError, installation

PLACES = (
    "data/cifar10",
    "data/cifar-10-python.tar.gz",
    "data/cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    "cifar-10-batches-py",
)


def run(argv: Sequence[str]) -> int:
    """Print the findings; returns 0 if training can start, 1 if something prevents it."""
    parser = Parser(
        prog="rotvq doctor",
        description="Show versions, extras, devices, precision, threads and available data.",
    )
    parser.add_argument("--data", action="append", default=[], help="also try to load this source")
    options = parser.parse_args(argv)
    terminal = Terminal()
    for name, finding in [*_software(), *_machine()]:
        terminal.say(f"{name:<10} {finding}")
    broken = False
    for place in [*(p for p in PLACES if Path(p).exists()), *options.data, "embedded:photos"]:
        finding, failed = _data(place)
        broken = broken or (failed and place in [*options.data, "embedded:photos"])
        terminal.say(f"{'data':<10} {place}: {finding}")
    if not any(Path(p).exists() for p in PLACES):
        terminal.say(
            f"{'data':<10} CIFAR-10 not found ({', '.join(PLACES)}); --data cifar10 downloads it"
        )
    return 1 if broken else 0


def _software() -> Iterator[tuple[str, str]]:
    from rotvq.training.environment import versions

    yield "rotvq", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield "packages", ", ".join(f"{name} {number}" for name, number in versions().items())
    for extra, modules in extras.EXTRAS.items():
        absent = [module for module in modules if find_spec(module) is None]
        if absent:
            yield "extra", f"{extra}: no {', '.join(absent)}. {installation(extra)}"
    try:
        import torchvision  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    except ImportError:
        pass
    except Exception as error:
        yield "warning", f"torchvision is installed but broken ({error}): pip uninstall torchvision"


def _machine() -> Iterator[tuple[str, str]]:
    import torch

    from rotvq.training.environment import hardware, resolve_precision

    devices = [torch.device("cpu")]
    devices += [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    for device in devices:
        found = hardware(device)
        precision = resolve_precision("auto", device)
        memory = ""
        if device.type == "cuda":
            memory = f", {torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
        yield (
            str(device),
            f"{found['name']}{memory}, {found['cores']} cores, {found['threads']} threads, "
            f"precision auto = {precision}",
        )
    if len(devices) == 1:
        yield "gpu", "none: training runs on the CPU (start with --preset best)"
    if torch.get_float32_matmul_precision() != "highest":
        yield "warning", "float32 matrix products have reduced precision: codes may differ"


def _data(source: str) -> tuple[str, bool]:
    """A description of a source, and whether it failed to load."""
    from rotvq.data_processing import load

    try:
        data = load(source)
    except UserError as error:
        return f"not usable: {error}", True
    except ModuleNotFoundError as error:
        remedy = extras.remedy(error)
        if remedy is None:
            raise
        return f"not usable: {remedy}", True
    _, c, h, w = data.train.images.shape
    return (
        f"{data.name}, {len(data.train.images):,} training and {len(data.test.images):,} test "
        f"images, {c}x{h}x{w}",
        False,
    )
