"""Nothing leaves the machine unless it is asked to, and nothing is left in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rotvq import telemetry

WATCHED = """
import sys
asked = []
sys.addaudithook(
    lambda event, arguments: asked.append((event, arguments))
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto")
    else None
)
from rotvq.cli.main import main
status = main(sys.argv[1:])
assert not asked, asked
sys.exit(status)
"""
FONTS = "matplotlib"
"""The one thing that is kept: what matplotlib knows of the fonts."""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A library that writes down what a process asks the C library for, and not Python."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("shim") / "network.so"
    source = Path(__file__).with_name("native_network.c")
    command = [compiler, "-shared", "-fPIC", "-w", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Child:
    """A process whose network and home are watched."""

    def __init__(self, shim, home, *command, **environment):
        self.home, self.log = home, home.with_name(f"{home.name}.log")
        home.mkdir()
        own = {
            "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "OMP_NUM_THREADS": "1",
            "LD_PRELOAD": str(shim), "NETWORK_LOG": str(self.log),
        }  # fmt: skip
        others = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k}
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**others, **own, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self):
        """Its exit status and errors; what it asked the network for; the files it left."""
        _, errors = self.process.communicate(timeout=300)
        asked = self.log.read_text().splitlines() if self.log.exists() else []
        left = [path for path in self.home.rglob("*") if path.is_file()]
        return (
            (self.process.returncode, errors),
            asked,
            [str(path.relative_to(self.home)) for path in left if FONTS not in path.parts],
        )


@pytest.fixture
def watched(shim, tmp_path):
    def run(*words):
        return Child(shim, tmp_path / f"home-{words[0]}", "-c", WATCHED, *words)

    return run


def test_the_hook_detects_name_lookups(watched):
    child = watched("train", "--data", "someone/something", "--out", "/nowhere/to/be/found")
    (status, errors), asked, _ = child.end()
    assert status == 1 and "socket" in errors
    assert any(line.startswith("getaddrinfo huggingface.co") for line in asked)


def test_the_shim_detects_lookups_outside_python(shim, tmp_path):
    code = (
        "import ctypes; c = ctypes.CDLL(None); c.getaddrinfo(b'a.example', None, None, None); "
        "a = (ctypes.c_ushort * 8)(2); c.connect(0, a, 16); c.sendto(0, b'', 0, 0, a, 16)"
    )
    (status, _), asked, _ = Child(shim, tmp_path / "home", "-c", code).end()
    assert status == 0 and asked == ["getaddrinfo a.example", "connect ", "sendto "]


def test_no_connection_is_opened(watched, tmp_path):
    out = tmp_path / "run"
    train = [
        *"train --preset smoke --data.train_images 64 --data.test_images 16".split(),
        *"--model.width 8 --model.dim 8 --training.batch_size 32".split(),
        *("--training.epochs", 1, "--out", out),
    ]
    doctor = watched("doctor")
    assert watched(*train).end() == ((0, ""), [], [])
    others = [
        watched("evaluate", out),
        watched("report", out, "--out", tmp_path / "report"),
        watched("export", out, "--to", "model", "--out", tmp_path / "model"),
    ]
    for child in (doctor, *others):
        assert child.end() == ((0, ""), [], [])


SESSION = "; import time; session = load_onnx({path!r}); time.sleep(10)"
WAYS = {
    "command": "from rotvq.cli.main import main; main(['--version']); "
    "from onnxruntime import InferenceSession as load_onnx",
    "library": "from rotvq.export import load_onnx",
}


def test_onnxruntime_reports_nothing(shim, tmp_path):
    """It leaves its files at once, and looks for its maker after 9 seconds."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "relu.onnx"
    values = [onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "relu", values[:1], values[1:])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    children = [
        Child(shim, tmp_path / name, "-c", way + SESSION.format(path=str(path)))
        for name, way in WAYS.items()
    ]
    for child in children:
        assert child.end() == ((0, ""), [], [])


@pytest.mark.parametrize("name", telemetry.OFF)
@pytest.mark.parametrize("value", ["0", "1"])
def test_a_variable_set_by_the_user_wins(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    telemetry.switch_off()
    assert os.environ[name] == value


def test_telemetry_is_off_by_default(monkeypatch):
    for name in telemetry.OFF:
        monkeypatch.delenv(name, raising=False)
    telemetry.switch_off()
    assert {name: os.environ[name] for name in telemetry.OFF} == telemetry.OFF
