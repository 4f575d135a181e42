"""Several processes train what one does: the same global batch, the same codebook."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from rotvq.evaluation.classifier import Classifier, save_classifier
from rotvq.training import checkpoint, environment

# Where there is a GPU, each process would need one of its own.
DEVICE = "auto" if environment.default_device().type == "cpu" else "cpu"
OPTIONS = (
    f"-m rotvq train --preset smoke --training.precision fp32 --training.device {DEVICE} "
    "--data.train_images 64 --data.test_images 16 --training.batch_size 32 --quantizer.decay 0.9 "
    "--model.width 16 --model.dim 16 --model.depth 1 --quantizer.codebook_size 64 "
    "--quantizer.init data --quantizer.restart 0.1 --training.epochs"
).split()


def start(folder, processes, *words, epochs=3):
    """The command line in so many processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launcher = f"-m torch.distributed.run --standalone --nproc-per-node {processes}".split()
    command = [sys.executable, *(launcher if processes > 1 else []), *OPTIONS, str(epochs)]
    return subprocess.Popen(
        [*command, *words, "--out", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(folder, processes, *words, epochs=3):
    process = start(folder, processes, *words, epochs=epochs)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    assert "Warning" not in errors
    return said


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run by one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(folder, 1)
    return folder


def assert_alike(folder, other):
    """Within what the order of sums may do: bf16's are not compared."""
    weights = [load_file(each / "model.safetensors") for each in (folder, other)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)
    lines = [(each / "epochs.jsonl").read_text().splitlines() for each in (folder, other)]
    assert len(lines[0]) == len(lines[1])
    for pair in zip(*lines, strict=True):
        a, b = map(json.loads, pair)
        for split in ("train", "test"):
            for name in ("loss", "reconstruction_loss", "perplexity"):
                assert abs(a[split][name] - b[split][name]) < 1e-3 * abs(a[split][name])


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_equal_one(alone, tmp_path, processes):
    said = train(tmp_path / "run", processes)
    assert said.count("epoch   1") == 1  # one process speaks for all
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["hardware"]["processes"] == processes
    assert_alike(alone, tmp_path / "run")


def test_two_processes_equal_one_under_muon(tmp_path):
    for processes in (1, 2):
        train(tmp_path / str(processes), processes, "--training.optimizer", "muon", epochs=2)
    assert_alike(tmp_path / "1", tmp_path / "2")


def test_a_run_resumes_with_another_number_of_processes(alone, tmp_path):
    folder = tmp_path / "run"
    for processes, epochs in ((2, 1), (1, 2), (4, 3)):
        assert train(folder, processes, "--resume", epochs=epochs).count("epoch") >= 1
    assert_alike(alone, folder)


def test_a_batch_that_does_not_divide_is_one_line(tmp_path):
    process = start(tmp_path / "run", 2, "--training.batch_size", "31")
    said, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "31 for 2 processes" in said + errors
    assert not (tmp_path / "run").exists()


def test_processes_without_a_shared_folder_are_refused(tmp_path):
    """Each process with a folder of its own, the second without a checkpoint in it."""
    train(tmp_path / "0", 1, epochs=1)
    shutil.copytree(tmp_path / "0", tmp_path / "1")
    (tmp_path / "1/checkpoint.pt").unlink()
    code = (
        "import os, sys; from rotvq.cli.main import main; "
        f"sys.exit(main([*{OPTIONS[2:]!r}, '2', '--resume', '--out', "
        f"os.path.join({str(tmp_path)!r}, os.environ['RANK'])]))"
    )
    launcher = "-m torch.distributed.run --standalone --nproc-per-node 2 --no-python".split()
    done = subprocess.run(
        [sys.executable, *launcher, sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "one folder that all processes see" in done.stdout + done.stderr


def test_a_killed_process_ends_the_others_and_the_run_can_be_resumed(alone, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, 2)
    deadline = time.monotonic() + 120
    while not (folder / "epochs.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = [child.pid for child in psutil.Process(process.pid).children()]
    os.kill(children[-1], signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    train(folder, 2, "--resume")
    assert_alike(alone, folder)


def test_several_processes_hold_one_lock_for_all(tmp_path):
    """A second launch ends with a one-line error; the first one finishes."""
    folder = tmp_path / "run"
    first = start(folder, 2, epochs=4)
    deadline = time.monotonic() + 120
    while not (folder / "epochs.jsonl").exists():
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = [child.pid for child in psutil.Process(first.pid).children()]
    for child in children:
        os.kill(child, signal.SIGSTOP)
    second = start(folder, 1, "--resume", epochs=4)
    _, errors = second.communicate(timeout=120)
    for child in children:
        os.kill(child, signal.SIGCONT)
    assert second.returncode == 2
    assert errors.count("\n") == 1 and "one is training it now" in errors
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 0, errors[-2000:]
    assert len((folder / "epochs.jsonl").read_text().splitlines()) == 4


def test_two_processes_equal_one_with_a_discriminator(tmp_path):
    """And with a perceptual loss, and the gradient penalty of the first step."""
    torch.manual_seed(0)
    (tmp_path / "network").mkdir()
    save_classifier(tmp_path / "network", Classifier(2, (4, 4)), {})
    words = (
        f"--training.perceptual {tmp_path / 'network'} --training.perceptual_weight 0.1 "
        "--training.adversarial_weight 0.1 --training.adversarial_start 0"
    ).split()
    for processes in (1, 2):
        train(tmp_path / str(processes), processes, *words, epochs=2)
    assert_alike(tmp_path / "1", tmp_path / "2")
    states = [checkpoint.load(tmp_path / n / "checkpoint.pt").discriminator for n in "12"]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4, msg=name)
