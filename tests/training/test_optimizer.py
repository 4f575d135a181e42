"""Muon beside torch's own Muon and Adam, and its matrices beside singular value decompositions."""

from __future__ import annotations

import pytest
import torch

from rotvq.model import VQVAE
from rotvq.quantization import GradientLearned, VectorQuantizer
from rotvq.training import gradients
from rotvq.training.config import TrainingConfig
from rotvq.training.optimizer import MOMENTUM, Muon, make_optimizer, moments, orthogonalized


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9), (1, 5)])
def test_singular_values_come_close_to_one_and_singular_vectors_stay(shape):
    scales = torch.tensor([1e-6, 1.0, 1e12]).view(-1, 1, 1)
    g = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)) * scales
    u, _, v = torch.linalg.svd(g.double(), full_matrices=False)
    found = u.mT @ orthogonalized(g).double() @ v.mT
    values = found.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (found - values.diag_embed()).abs().max() < 1e-4


@pytest.mark.parametrize("size", [0.0, 1e-13, 1e-25, 1e-40])
def test_a_tiny_matrix_stays_tiny_beside_others(size):
    g = torch.zeros(2, 3, 4)
    g[0, 1, 2], g[1, 0, 0] = size, 1.0
    found = orthogonalized(g).abs().amax((1, 2))
    assert found[0] <= 1e-3
    assert found[1] > 0.6


def test_a_matrix_without_gradients_comes_to_rest():
    p = torch.nn.Parameter(torch.ones(4, 6))
    optimizer = Muon([{"params": [p], "orthogonal": True}], lr=1.0)
    moved = []
    for step in range(2000):
        before = p.detach().clone()
        p.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * (step == 0)
        optimizer.step()
        moved.append((p.detach() - before).norm().item())
    assert moved[0] > 0.1
    assert max(moved[600:]) < 1e-3


@pytest.mark.parametrize("decay", [0, 2])
def test_matrices_move_as_under_torchs_muon_and_the_rest_as_under_adam(decay):
    draw = torch.Generator().manual_seed(0)
    shapes = (16, 40), (40, 16), (16, 40), (16,)
    started = [torch.randn(shape, generator=draw) for shape in shapes]
    ours = [torch.nn.Parameter(t.clone()) for t in started]
    theirs = [torch.nn.Parameter(t.clone()) for t in started]
    groups = [{"params": [p], "orthogonal": p.ndim > 1, "decay": decay} for p in ours]
    optimizers = (
        Muon(groups, lr=0.1),
        torch.optim.Muon(
            theirs[:3],
            lr=0.1,
            weight_decay=decay,
            momentum=MOMENTUM,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.Adam(theirs[3:], lr=0.1),
    )
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(ours[:3], theirs[:3], started[:3], strict=True):
        moved = other - before
        assert (one - other).norm() < 0.02 * moved.norm(), "theirs is computed in bfloat16"
    assert torch.equal(ours[3], theirs[3])


def test_muon_takes_the_weights_of_the_network_and_adam_biases_and_codes():
    quantizer = VectorQuantizer(16, 8, update=GradientLearned(), channel_dim=1)
    model = VQVAE(width=8, dim=8, quantizer=quantizer, network="attention")
    optimizer = make_optimizer(
        model, TrainingConfig(optimizer="muon"), [model.encoder, model.decoder]
    )
    assert [group.get("decay") for group in optimizer.param_groups] == [0.1, None]
    orthogonal, others = (group["params"] for group in optimizer.param_groups)
    names = {p: name for name, p in model.named_parameters()}
    assert {names[p].rpartition(".")[2] for p in orthogonal} == {"weight"}
    assert {p.ndim for p in orthogonal} == {2, 4}
    assert "quantizer.codebook.embeddings" in {names[p] for p in others}
    assert len(orthogonal) + len(others) == len(names)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_moments_are_what_the_optimizer_keeps(name):
    model = VQVAE(width=8, dim=8)
    optimizer = make_optimizer(
        model, TrainingConfig(optimizer=name), [model.encoder, model.decoder]
    )
    model(torch.rand(2, 3, 8, 8)).loss().backward()
    optimizer.step()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p, like in zip(parameters, moments(optimizer), strict=True):
        kept = optimizer.state[p]
        assert {n: (t.shape, t.dtype) for n, t in kept.items()} == {
            n: (t.shape, t.dtype) for n, t in like.items()
        }


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing(name):
    model = VQVAE(width=8, dim=8)
    parts = [model.encoder, model.decoder]
    optimizer = make_optimizer(model, TrainingConfig(optimizer=name), parts)
    scaler = gradients.scaler(torch.device("cpu"), "fp32")

    def step(bad: bool) -> None:
        loss = model(torch.rand(2, 3, 8, 8)).loss()
        scaler.scale(loss).backward()
        if bad:
            model.encoder[0].weight.grad[0, 0, 0, 0] = torch.nan
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    def state() -> list[torch.Tensor]:
        kept = [t for values in optimizer.state.values() for t in values.values()]
        return [t.clone() for t in (*model.parameters(), *kept)]

    step(bad=False)
    before = state()
    step(bad=True)
    assert all(map(torch.equal, state(), before))
    step(bad=False)
    assert not all(map(torch.equal, state(), before))


def test_muon_takes_a_rate_that_is_a_tensor():
    moved = []
    for lr in (0.1, torch.tensor(0.1)):
        p = torch.nn.Parameter(torch.ones(3, 4))
        optimizer = Muon([{"params": [p], "orthogonal": True}], lr=lr, fused=True)
        p.grad = torch.arange(12.0).view(3, 4)
        optimizer.step()
        moved.append(p.detach())
    torch.testing.assert_close(*moved)
