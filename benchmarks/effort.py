"""Error and time of encoding at efforts 0 to 9, beside a plain search with as many decoder passes.

The plain search takes candidates from the gradient and a bound of equal curvature in all
directions, tries them on a lattice of every fourth token in both directions, and keeps a step of an
image if its error falls. Writes effort_cpu.json (or _cuda) and its figure.

    python benchmarks/effort.py MODEL --data SOURCE [--split test] [--images N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from rotvq.cli.coding import load_model
from rotvq.data_processing import load
from rotvq.evaluation.evaluate import batches, evaluate, evaluating
from rotvq.files import write_bytes, write_json
from rotvq.model import VQVAE
from rotvq.model.effort import iterations
from rotvq.model.error_functions import squared_error
from rotvq.model.level_search import LevelSearch
from rotvq.model.token_search import TokenSearch
from rotvq.names import DEFAULT_EFFORT, EFFORTS
from rotvq.report import style
from rotvq.training import environment

TIMED, BATCH = 256, 128
STRIDE, CANDIDATES, NEAR, SWEEPS = 4, 6, 3, 3
"""Of the plain search: tokens between two of the lattice, codes tried for each, width of the
neighborhood in tokens whose error decides, and times each token is tried."""
SHARE = 10.0
"""Curvature of the plain search over the mean eigenvalue of the decoder's; 3 and 30 are worse."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a run folder, a saved model, or owner/name on the Hub")
    parser.add_argument("--data", required=True, help="data source, as for rotvq train")
    parser.add_argument("--split", choices=["test", "train"], default="test")
    parser.add_argument("--images", type=int, help="this many, evenly spaced (default: all)")
    parser.add_argument("--plain-images", type=int, default=512, help="of the plain search")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    model = load_model(options.model)
    device = next(model.parameters()).device
    data = load(options.data, channels=model.channels)
    whole = torch.from_numpy(getattr(data, options.split).images)
    images = spaced(whole, options.images or len(whole)).to(device)
    rows = []
    for effort in range(len(EFFORTS)):
        rows.append(measured(model, images, effort))
        print("  ".join(f"{name} {value:.6g}" for name, value in rows[-1].items()), flush=True)
    some = spaced(images, options.plain_images)
    first_guess = evaluate(model, some, beta=0.25)["metrics"]["mse"]
    with evaluating(model):
        plain = [
            {"passes": passes, "mse_ratio": mse / first_guess}
            for passes, mse in plain_search(model, some)
        ]
    record = {
        "what": "error and time of encoding at each effort",
        "data": data.name,
        "split": options.split,
        "images": len(images),
        "timed": min(TIMED, len(images)),
        "default_effort": DEFAULT_EFFORT,
        "efforts": rows,
        "plain_images": len(some),
        "plain": plain,
        "hardware": environment.hardware(device),
        "versions": environment.versions(),
        "git": environment.git_state(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"effort_{device.type}.json", record)
    write_bytes(options.out / f"effort_{device.type}.png", figure(record))


def spaced(images: Tensor, n: int) -> Tensor:
    """n images, evenly spaced."""
    return images[torch.linspace(0, len(images) - 1, min(n, len(images))).long()]


def measured(model: VQVAE, images: Tensor, effort: int) -> dict[str, Any]:
    """Metrics over all images, passes and seconds per image over some of them."""
    record = evaluate(model, images, beta=0.25, batch_size=BATCH, search=LevelSearch(model, effort))
    some, threads = spaced(images, TIMED), torch.get_num_threads()

    def encode() -> None:
        search = LevelSearch(model, effort)
        with evaluating(model), torch.no_grad():
            for x in batches(some, BATCH, model):
                search(x, model.encode(x))
        if images.is_cuda:
            torch.cuda.synchronize()

    with counting(model) as passes:
        wall = seconds(encode, time.perf_counter)
    torch.set_num_threads(1)
    one_thread = seconds(encode, time.process_time)
    torch.set_num_threads(threads)
    names = ("mse", "psnr_per_image", "ssim", "perplexity")
    return {
        "effort": effort,
        "iterations": iterations(effort),
        **{name: record["metrics"][name] for name in names},
        "passes": passes[0] / len(some),
        "seconds_one_thread": one_thread / len(some),
        "seconds_wall": wall / len(some),
    }


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    since = clock()
    work()
    return clock() - since


@contextmanager
def counting(model: VQVAE) -> Iterator[list[int]]:
    """Counts the images that pass the decoder, forward and backward."""
    passes = [0]

    def count(_: object, args: tuple[Tensor, ...]) -> None:
        passes[0] += len(args[0]) * (1 + torch.is_grad_enabled())

    hook = model.decoder.register_forward_pre_hook(count)
    try:
        yield passes
    finally:
        hook.remove()


class State(NamedTuple):
    """Tokens (b, h, w), the error of each image, near each token, and its gradient."""

    indices: Tensor
    error: Tensor
    near: Tensor
    g: Tensor


@torch.no_grad()
def plain_search(model: VQVAE, images: Tensor) -> Iterator[tuple[float, float]]:
    """Passes per image and MSE after each row of the lattice, for a single codebook."""
    search = TokenSearch(model)
    with counting(model) as passes:
        parts = [*batches(images, BATCH, model)]
        states = [state(search, x, model.encode(x)) for x in parts]
        for _ in range(SWEEPS):
            for top in range(STRIDE):
                for left in range(STRIDE):
                    here = (slice(None), slice(top, None, STRIDE), slice(left, None, STRIDE))
                    pairs = zip(parts, states, strict=True)
                    states = [step(search, x, now, here) for x, now in pairs]
                error = sum(now.error.sum().item() for now in states)
                yield passes[0] / len(images), error / images.numel()


def step(search: TokenSearch, x: Tensor, now: State, here: tuple[slice, ...]) -> State:
    """The best of the candidates on a lattice, for images whose error falls."""
    codes, c = search.tables[0], SHARE * search.second_order.H[:, :, 1, 1].diagonal().mean()
    old = now.indices[here]
    scores = now.g.movedim(1, -1)[here] @ codes.T + c * torch.cdist(codes[old], codes).square()
    scores = scores.scatter(-1, old.unsqueeze(-1), torch.inf)
    found, least = old, torch.zeros_like(now.near[here])
    for candidate in scores.topk(CANDIDATES, largest=False).indices.unbind(-1):
        tried = now.indices.clone()
        tried[here] = candidate
        gain = (near(search._decode(search._codes(tried[:, None])), x, tried) - now.near)[here]
        found, least = torch.where(gain < least, candidate, found), gain.minimum(least)
    chosen = now.indices.clone()
    chosen[here] = found
    new = state(search, x, chosen)
    better = new.error < now.error
    pairs = zip(new, now, strict=True)
    return State(*(torch.where(better.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def state(search: TokenSearch, x: Tensor, indices: Tensor) -> State:
    with torch.enable_grad():
        q = search._codes(indices[:, None]).requires_grad_()
        y = search._decode(q)
        (g,) = torch.autograd.grad(squared_error(y, x).sum(), q)
    y = y.detach()
    return State(indices, squared_error(y, x), near(y, x, indices), g)


def near(y: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    """The squared error in the neighborhood of each token, (b, h, w)."""
    squares = (y - x).square().sum(1, keepdim=True)
    side = x.shape[2] // indices.shape[1]
    return F.avg_pool2d(F.avg_pool2d(squares, side), NEAR, 1, NEAR // 2).squeeze(1)


def figure(record: dict[str, Any]) -> bytes:
    """Error over decoder passes and over time; each point is an effort."""
    rows = record["efforts"]
    first = rows[0]["mse"]
    with style.look():
        plot = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
        passes, times = plot.subplots(1, 2)
        ours = {"color": style.color(0), "marker": "o"}
        passes.plot(
            [row["passes"] for row in rows[1:]],
            [row["mse"] / first for row in rows[1:]],
            **ours,
        )
        passes.plot(
            [point["passes"] for point in record["plain"]],
            [point["mse_ratio"] for point in record["plain"]],
            color=style.color(1),
            marker="s",
        )
        times.plot(
            [1e3 * row["seconds_one_thread"] for row in rows], [row["mse"] for row in rows], **ours
        )
        for row in rows:
            at = (1e3 * row["seconds_one_thread"], row["mse"])
            default = row["effort"] == record["default_effort"]
            times.annotate(
                f"{row['effort']} (default)" if default else f"{row['effort']}",
                at,
                (-6, -10) if default else (4, 4),
                textcoords="offset points",
                ha="right" if default else "left",
            )
        passes.set_title("MSE, as a share of the first guess ↓")
        passes.set_xlabel("decoder passes per image, forward and backward")
        times.set_title("MSE ↓, by effort")
        times.set_xlabel("ms per image, one thread")
        for axes in (passes, times):
            axes.set_xscale("log")
            style.log_ticks(axes.xaxis)
        style.legend(plot, passes.get_lines(), ["efforts 1 to 9", "plain search"])
        return style.png(plot)


if __name__ == "__main__":
    main()
