"""Error and bits of tokens that are searched for with a prior, over λ.

Each λ minimizes squared error + λ * bits of an image; λ = 0 is the search without a prior, and
effort 0 the nearest codes. Bits are code lengths under the prior, with no class given. Writes
rate_search_cpu.json (or _cuda).

    python benchmarks/rate_search.py MODEL PRIOR --data SOURCE [--images N] [--effort 4]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from effort import spaced
from torch import Tensor

from rotvq.cli.coding import load_model
from rotvq.data_processing import load
from rotvq.evaluation.evaluate import batches, evaluating
from rotvq.evaluation.rate_distortion import gaussian_distortion, variances
from rotvq.files import write_json
from rotvq.generation import Prior, PriorRate
from rotvq.model import VQVAE
from rotvq.model.effort import iterations
from rotvq.model.objective import free_of_charge
from rotvq.model.search_state import as_rows
from rotvq.model.token_search import TokenSearch
from rotvq.training import environment

WEIGHTS = (0.0, 0.015, 0.03, 0.06, 0.12, 0.25)
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a run folder, a saved model, or owner/name on the Hub")
    parser.add_argument("prior", help="folder of a prior over its tokens")
    parser.add_argument("--data", required=True, help="data source, as for rotvq train")
    parser.add_argument("--split", choices=["test", "train"], default="test")
    parser.add_argument("--images", type=int, help="this many, evenly spaced (default: all)")
    parser.add_argument("--effort", type=int, default=4)
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS, metavar="λ")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    model = load_model(options.model).eval()
    device = next(model.parameters()).device
    prior = Prior.from_pretrained(options.prior).to(device)
    data = load(options.data, channels=model.channels)
    whole = torch.from_numpy(getattr(data, options.split).images)
    images = spaced(whole, options.images or len(whole)).to(device)
    spread = variances(data.train.images)
    rows = []
    for effort, weight in ((0, 0.0), *((options.effort, weight) for weight in options.weights)):
        row = measured(model, prior, images, effort, weight)
        row["gaussian_distortion"] = gaussian_distortion(spread, row["bits_per_image"])
        rows.append(row)
        print("  ".join(f"{name} {value:.6g}" for name, value in row.items()), flush=True)
    record = {
        "what": "error and bits of tokens searched for with a prior",
        "data": data.name,
        "split": options.split,
        "images": len(images),
        "prior": {
            "parameters": sum(p.numel() for p in prior.parameters()),
            **vars(prior.config),
        },
        "rows": rows,
        "hardware": environment.hardware(device),
        "versions": environment.versions(),
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"rate_search_{device.type}.json", record)


@torch.no_grad()
def measured(
    model: VQVAE, prior: Prior, images: Tensor, effort: int, weight: float
) -> dict[str, Any]:
    """MSE, bits and seconds of the search per image."""
    bits, rate = PriorRate(prior, model, 1.0), PriorRate(prior, model, weight)
    search, seconds, squares, total = TokenSearch(model), 0.0, 0.0, 0.0
    with evaluating(model):
        for x in batches(images, BATCH, model):
            indices, since = model.encode(x), time.process_time()
            if effort:
                chosen = rate if weight else free_of_charge
                indices = search(x, indices, iterations(effort), rate=chosen)
            seconds += time.process_time() - since
            squares += (model.decode(indices) - x).double().square().sum().item()
            total += bits(as_rows(indices))[0].double().sum().item()
    return {
        "effort": effort,
        "weight": weight,
        "mse": squares / images.numel(),
        "bits_per_image": total / len(images),
        "search_seconds": seconds / len(images),
    }


if __name__ == "__main__":
    main()
