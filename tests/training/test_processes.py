"""Two processes train what one does: the same global batch, the same codebook."""

import json
import os
import subprocess
import sys

import torch
from safetensors.torch import load_file

OPTIONS = (
    "-m rotvq train --preset smoke --training.precision fp32 --training.device cpu "
    "--data.train_images 64 --data.test_images 16 --training.batch_size 32 --quantizer.decay 0.9 "
    "--training.epochs 1 --out"
).split()


def train(folder, *launcher):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *launcher, *OPTIONS, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_two_processes_equal_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train(one)
    launcher = "-m torch.distributed.run --standalone --nproc-per-node 2".split()
    said = train(two, *launcher)
    assert said.count("epoch   1") == 1  # one process speaks for both
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
    records = [(folder / "epochs.jsonl").read_text().splitlines()[-1] for folder in (one, two)]
    for split in ("train", "test"):
        a, b = (json.loads(record)[split] for record in records)
        for name in ("loss", "reconstruction_loss", "perplexity"):
            assert abs(a[name] - b[name]) < 1e-3 * abs(a[name]), (split, name)
