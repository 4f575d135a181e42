"""The optimizers: Adam, or Muon for the matrices of the network and Adam for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from rotvq.training.config import OptimizationConfig

MOMENTUM = 0.95
"""Decay of Muon's average of the gradients."""

DISCRIMINATOR = {"rate": 0.1, "betas": (0.5, 0.9)}
"""A discriminator's share of the learning rate, and Adam's decays for it."""

UPDATE_SIZE = 0.2
"""Root mean square of Muon's updates, in learning rates: about that of Adam's."""

WEIGHT_DECAY = 0.1
"""The part of a matrix that Muon removes at each step, in learning rates (as in Liu et al.).

Updates of a fixed size are like a random walk: without decay, weights grow as long as a run lasts.
"""

_SMALLEST_NORM = 1e-7
"""Of a matrix with a smaller norm, the singular values stay small: a momentum that fades because
no gradient arrives has a direction, but it means nothing."""

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""p(x) = ax + bx³ + cx⁵, applied five times, maps singular values in [0.003, 1] to 1 ± 0.3."""


def orthogonalized(g: Float[Tensor, "b m n"]) -> Float[Tensor, "b m n"]:
    """The matrices with their singular values moved close to 1: about U Vᵀ of g = U S Vᵀ.

    Five Newton-Schulz steps of Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon). They
    are taken on the Gram matrix g gᵀ, which the polynomial commutes with, in float32: for wide
    matrices that is quicker than on g itself, and exact to rounding.

    Args:
        g: finite matrices, with norms below 1e19.
    """
    if g.shape[1] > g.shape[2]:
        return orthogonalized(g.mT).mT
    a, b, c = _QUINTIC
    x = g.float()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(_SMALLEST_NORM)
    gram = x @ x.mT
    product = torch.eye(gram.shape[1], device=g.device).expand_as(gram)
    for _ in range(5):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    return product @ x


class Muon(Adam):
    """Muon for matrices, Adam for all other parameters (Jordan et al. 2024).

    A convolution's weight is the matrix of its output channels by everything else. The update is
    the orthogonalized momentum, scaled so that one learning rate fits both groups, plus weight
    decay (Liu et al., arXiv 2502.16982, eq. 4). Matrices of one shape are updated together: a GPU
    spends most of the time of small matrices on launching kernels.

    Args:
        params: parameter groups; those with a true `orthogonal` hold weights of 2 or more
            dimensions, and may have a weight decay, `decay`. The other arguments are Adam's.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step, which clears the gradients of the matrices.

        A loss scaler sets `found_inf`, to skip the step without waiting for the device.
        """
        found = getattr(self, "found_inf", None)
        device = self.param_groups[0]["params"][0].device
        finite = torch.ones((), device=device) if found is None else (found == 0).float()
        for group in self.param_groups:
            alike: dict[tuple[int, ...], dict[Tensor, Tensor]] = {}
            for p in group["params"] if group.get("orthogonal") else ():
                if p.grad is not None:
                    matrix = self._accelerated(p, p.grad, finite).flatten(1)
                    alike.setdefault(matrix.shape, {})[p] = matrix
                    p.grad = None  # Adam skips it
            kept = 1 - group["lr"] * group.get("decay", 0) * finite
            for shape, matrices in alike.items():
                updates = orthogonalized(torch.stack([*matrices.values()]))
                size = UPDATE_SIZE * max(shape) ** 0.5 * finite
                updates *= group["lr"] * size
                for p, update in zip(matrices, updates, strict=True):
                    p.mul_(kept).sub_(update.reshape(p.shape))
        return super().step(closure)

    def _accelerated(self, p: Tensor, g: Tensor, finite: Tensor) -> Tensor:
        """The gradient with Nesterov momentum; without it, if `finite` is 0."""
        state = self.state[p]
        if not state:
            # Adam reads the step of every state when it loads one.
            state.update(step=torch.zeros((), device=p.device), exp_avg=torch.zeros_like(p))
        state["step"] += finite
        g = g.where(finite > 0, 0.0)
        return g.lerp(state["exp_avg"].lerp_(g, (1 - MOMENTUM) * finite), MOMENTUM)


def make_optimizer(
    model: nn.Module,
    options: OptimizationConfig,
    parts: Sequence[nn.Module],
    discriminator: nn.Module | None = None,
) -> Optimizer:
    """The optimizer of a run.

    Args:
        model: the model whose parameters it updates.
        options: options of the run.
        parts: the parts of the model whose matrices Muon updates; codes and embeddings are left to
            Adam.
        discriminator: trained by Adam together with the model; None without one.
    """
    rate, parameters = options.learning_rate, [*model.parameters()]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if options.optimizer == "muon":
        network = {p for part in parts for p in part.parameters()}
        matrices = [p for p in parameters if p in network and p.ndim > 1]
        others = [p for p in parameters if p not in network or p.ndim < 2]
        groups = [
            {"params": matrices, "orthogonal": True, "decay": WEIGHT_DECAY},
            {"params": others, "orthogonal": False},
        ]
    if discriminator is not None:
        groups.append({"params": [*discriminator.parameters()], **DISCRIMINATOR})
    # The scheduler would add this key later, and checkpoints are checked for every key.
    for group in groups:
        group["initial_lr"] = rate
    device = parameters[0].device.type
    kind = Muon if options.optimizer == "muon" else Adam
    return kind(groups, lr=rate, fused=device in ("cpu", "cuda"), capturable=device == "cuda")


def moments(optimizer: Optimizer) -> list[dict[str, Tensor]]:
    """Tensors with the shapes and dtypes of the optimizer's state after a step, by parameter."""
    return [
        {"step": torch.tensor(0.0), "exp_avg": p}
        | ({} if group.get("orthogonal") else {"exp_avg_sq": p})
        for group in optimizer.param_groups
        for p in group["params"]
    ]
