"""Muon beside torch's own Muon and Adam, and its matrices beside singular value decompositions."""

from __future__ import annotations

import pytest
import torch

from rotvq.model import VQVAE
from rotvq.quantization import GradientLearned, VectorQuantizer
from rotvq.training.config import TrainingConfig
from rotvq.training.optimizer import MOMENTUM, Muon, make_optimizer, moments, orthogonalized


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9), (1, 5)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_singular_values_come_close_to_one_and_singular_vectors_stay(shape, scale):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale
    u, _, v = torch.linalg.svd(g.double(), full_matrices=False)
    found = u.T @ orthogonalized(g).double() @ v.T
    values = found.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (found - values.diag()).abs().max() < 1e-4


def test_a_zero_matrix_stays_zero():
    assert orthogonalized(torch.zeros(3, 4)).count_nonzero() == 0


def test_matrices_move_as_under_torchs_muon_and_the_rest_as_under_adam():
    draw = torch.Generator().manual_seed(0)
    matrix, vector = torch.randn(16, 40, generator=draw), torch.randn(16, generator=draw)
    ours = [torch.nn.Parameter(t.clone()) for t in (matrix, vector)]
    theirs = [torch.nn.Parameter(t.clone()) for t in (matrix, vector)]
    groups = [{"params": [p], "orthogonal": p.ndim > 1} for p in ours]
    optimizers = (
        Muon(groups, lr=0.1),
        torch.optim.Muon(
            theirs[:1], lr=0.1, weight_decay=0, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.Adam(theirs[1:], lr=0.1),
    )
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = theirs[0] - matrix
    assert (ours[0] - theirs[0]).norm() < 0.02 * moved.norm(), "theirs is computed in bfloat16"
    assert torch.equal(ours[1], theirs[1])


def test_muon_takes_the_weights_of_the_network_and_adam_biases_and_codes():
    quantizer = VectorQuantizer(16, 8, update=GradientLearned(), channel_dim=1)
    model = VQVAE(width=8, dim=8, quantizer=quantizer, network="attention")
    optimizer = make_optimizer(
        model, TrainingConfig(optimizer="muon"), [model.encoder, model.decoder]
    )
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
