"""Training throughput of the paper's model with our quantizer, the peer's, and none.

All use the same encoder, decoder, batch and precision. A step is forward, backward, Adam and, with
a quantizer, search, rotation and EMA; steps are interleaved, so that noise of the machine affects
all alike. The peer is also timed in a plain training loop: float32, no channels-last, Adam's
defaults. Prints and writes median ratios with their quartiles.

    python benchmarks/training_throughput.py [--preset paper] [--out results/benchmarks]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from contestants import PEER, peers_layer
from timing import race, summary
from torch import Tensor, nn

from rotvq.files import write_json
from rotvq.model import VQVAE
from rotvq.training import environment
from rotvq.training.build import build_model
from rotvq.training.presets import PRESETS

PLAIN = f"{PEER}, plain loop"


class WithoutQuantizer(nn.Module):
    """The autoencoder without a quantizer."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder

    def loss(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.decoder(self.encoder(x)).float(), x)


class WithPeer(WithoutQuantizer):
    """The autoencoder with the peer's quantizer at our settings."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__(model)
        codes = model.quantizer.codebook.embeddings
        self.quantizer = peers_layer(codes.shape[1], len(codes), accept_image_fmap=True)

    def loss(self, x: Tensor) -> Tensor:
        z_q, _, commitment = self.quantizer(self.encoder(x))
        return F.mse_loss(self.decoder(z_q).float(), x) + 0.25 * commitment.sum()


class WithOurs(nn.Module):
    """The autoencoder with our quantizer."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model
        model.quantizer.defer_update = True

    def loss(self, x: Tensor) -> Tensor:
        return self.model(x).loss()

    def after_step(self) -> None:
        self.model.quantizer.update_codebook()


KINDS = {"rotvq": WithOurs, PEER: WithPeer, "no quantizer": WithoutQuantizer}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = environment.resolve_precision("auto", device)
    torch.manual_seed(0)
    x = torch.rand(options.batch_size, 3, 32, 32, device=device) * 2 - 1
    x = x.contiguous(memory_format=torch.channels_last)
    steps = {
        name: stepper(kind(build_model(PRESETS[options.preset])), x, precision)
        for name, kind in KINDS.items()
    }
    plain = KINDS[PEER](build_model(PRESETS[options.preset]))
    steps[PLAIN] = stepper(plain, x.contiguous(), precision="fp32", tuned=False)
    times = race(steps, device)
    ours = times["rotvq"]
    record = {
        "what": f"training throughput, model of the preset {options.preset}",
        "images_per_second": {
            name: options.batch_size / statistics.median(t) for name, t in times.items()
        },
        "times_the_peers": summary([b / a for a, b in zip(ours, times[PEER], strict=True)]),
        "times_the_peers_in_a_plain_loop": summary(
            [b / a for a, b in zip(ours, times[PLAIN], strict=True)]
        ),
        "share_of_the_quantizer": summary(
            [1 - b / a for a, b in zip(ours, times["no quantizer"], strict=True)]
        ),
        "batch_size": options.batch_size,
        "precision": precision,
        "hardware": environment.hardware(device),
        "versions": environment.versions() | {PEER: version(PEER)},
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"training_{options.preset}_{device.type}.json", record)
    for name, rate in record["images_per_second"].items():
        print(f"{name:32s}{rate:10.1f} images/s")
    for name in ("times_the_peers", "times_the_peers_in_a_plain_loop", "share_of_the_quantizer"):
        low, high = record[name]["quartiles"]
        title = name.replace("_", " ")
        print(f"{title:32s}{record[name]['median']:10.3f}   ({low:.3f} to {high:.3f})")


def stepper(kind: nn.Module, x: Tensor, precision: str, tuned: bool = True) -> Callable[[], object]:
    """A function that takes one training step."""
    kind.to(x.device).train()
    if tuned:
        kind.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(kind.parameters(), lr=2e-4, fused=tuned or None)
    after_step = getattr(kind, "after_step", lambda: None)

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = kind.loss(x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        after_step()

    return step


if __name__ == "__main__":
    main()
