"""What the quantizer costs in training: images/s of the paper's model with it and without it.

The same encoder, decoder, batch and precision, steps taken in turn so that a noisy machine treats
both alike: forward, backward, Adam, and for the quantizer its search, rotation and EMA. Prints and
writes the median ratio with its spread.

    python benchmarks/training_throughput.py [--steps 15] [--out results/benchmarks]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from rotvq.files import write_json
from rotvq.model import VQVAE
from rotvq.training import environment
from rotvq.training.build import build_model
from rotvq.training.presets import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=15, help="counted steps of each kind")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = environment.resolve_precision("auto", device)
    torch.manual_seed(0)
    x = torch.rand(options.batch_size, 3, 32, 32, device=device) * 2 - 1
    x = x.contiguous(memory_format=torch.channels_last)
    kinds = {
        "with": stepper(build_model(PRESETS["paper"]), x, precision, quantized=True),
        "without": stepper(build_model(PRESETS["paper"]), x, precision, quantized=False),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(options.steps + 3):
        for kind, step in kinds.items():
            elapsed = timed(step, device)
            if number >= 3:
                seconds[kind].append(elapsed)

    ratios = [b / a for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    rates = {kind: options.batch_size / statistics.median(s) for kind, s in seconds.items()}
    record = {
        "what": "training throughput with the quantizer / without, paper's model",
        "ratio_median": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
        "images_per_second": rates,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "precision": precision,
        "hardware": environment.hardware(device),
        "versions": environment.versions(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"training_throughput_{device.type}.json"
    write_json(path, record)
    low, middle, high = record["ratio_quartiles"]
    print(f"with the quantizer     {rates['with']:8.1f} images/s")
    print(f"without it             {rates['without']:8.1f} images/s")
    print(f"ratio, step by step    {middle:8.3f}   (quartiles {low:.3f} to {high:.3f})")
    print(
        f"{options.steps} steps of {options.batch_size}, {precision}, {record['hardware']['name']}"
    )


def stepper(model: VQVAE, x: torch.Tensor, precision: str, quantized: bool) -> Callable[[], object]:
    """A function that takes one training step."""
    model.to(x.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, fused=True)

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            if quantized:
                loss = model(x).loss()
            else:
                loss = F.mse_loss(model.decoder(model.encoder(x)).float(), x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if quantized:
            model.quantizer.update_codebook()

    return step


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of one step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    since = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - since


if __name__ == "__main__":
    main()
