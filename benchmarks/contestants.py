"""What is compared: our quantizer, the peer's, and the matrix product that exact search needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rotvq.quantization import EMA, VectorQuantizer

PEER, PRODUCT = "vector-quantize-pytorch", "matrix product"

MODES = ("forward", "step", "eval")
"""forward: in training mode; step: forward and backward; eval: forward in evaluation mode."""


@dataclass(frozen=True)
class Case:
    """A problem size: n vectors of d elements, k codes."""

    n: int
    d: int
    k: int

    def __str__(self) -> str:
        return f"n={self.n:,} d={self.d} k={self.k:,}"


Work = Callable[[], object]


def ours(case: Case, mode: str, device: torch.device) -> Work:
    """Our quantizer: rotation trick, EMA codebook, commitment loss."""
    layer = VectorQuantizer(case.k, case.d, estimator="rotation", update=EMA(0.99))

    def forward(layer: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
        out = layer(z)
        return out.z_q, out.commitment_loss

    return _work(layer, forward, case, mode, device)


def peer(case: Case, mode: str, device: torch.device) -> Work:
    """The same with vector-quantize-pytorch."""

    def forward(layer: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
        quantized, _, loss = layer(z.unsqueeze(0))
        return quantized.squeeze(0), loss.sum()

    return _work(peers_layer(case.d, case.k), forward, case, mode, device)


def peers_layer(d: int, k: int, **more: object) -> nn.Module:
    """The peer's layer with the rotation trick and an EMA codebook; otherwise its defaults.

    Raises:
        SystemExit: it is not installed.
    """
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError:
        raise SystemExit(
            "expected vector-quantize-pytorch to compare with; it is not installed. "
            "Run pip install -c constraints.txt -e '.[bench]'"
        ) from None
    return VectorQuantize(dim=d, codebook_size=k, decay=0.99, rotation_trick=True, **more)


def product(case: Case, mode: str, device: torch.device) -> Work:
    """z·eᵀ in float32 and nothing else, in every mode."""
    z, e = torch.randn(case.n, case.d, device=device), torch.randn(case.k, case.d, device=device)
    out = torch.empty(case.n, case.k, device=device)
    return lambda: torch.mm(z, e.T, out=out)


CONTESTANTS = {"rotvq": ours, PEER: peer, PRODUCT: product}


def _work(
    layer: nn.Module,
    forward: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]],
    case: Case,
    mode: str,
    device: torch.device,
) -> Work:
    """The call to time, with codes drawn from the distribution of the vectors."""
    layer.to(device).train(mode != "eval")
    z = torch.randn(case.n, case.d, device=device, requires_grad=mode == "step")
    g = torch.randn(case.n, case.d, device=device)
    with torch.no_grad():
        _place(layer, torch.randn(case.k, case.d, device=device))

    def step() -> None:
        z_q, loss = forward(layer, z)
        torch.autograd.backward([z_q, loss], [g, torch.ones_like(loss)])
        z.grad = None

    def only_forward() -> object:
        with torch.set_grad_enabled(mode == "forward"):
            return forward(layer, z)

    return step if mode == "step" else only_forward


def _place(layer: nn.Module, e: Tensor) -> None:
    if isinstance(layer, VectorQuantizer):
        layer.codebook.embeddings.copy_(e)
        layer.codebook.cluster_size.fill_(1.0)
        layer.codebook.embed_sum.copy_(e)
    else:
        book = layer._codebook
        book.embed.data.copy_(e)
        book.embed_avg.data.copy_(e)
        book.cluster_size.data.fill_(1.0)
        book.initted.data.fill_(True)
