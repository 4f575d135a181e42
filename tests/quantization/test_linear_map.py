"""Codes that move as a whole: e = b W (SimVQ)."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from rotvq.errors import UserError
from rotvq.quantization import EMA, LinearMap, Restart, VectorQuantizer
from rotvq.quantization.codebook import Codebook

K, D = 12, 5


def make(**options):
    torch.manual_seed(0)
    return VectorQuantizer(K, D, update=LinearMap(0.9), estimator="straight_through", **options)


def weight(quantizer):
    (parameter,) = quantizer.parameters()
    return parameter


def test_it_starts_as_the_codebook_of_the_other_updates():
    quantizer = make()
    torch.manual_seed(0)
    assert torch.equal(
        quantizer.codebook.embeddings, VectorQuantizer(K, D, update=EMA()).codebook.embeddings
    )
    assert torch.equal(weight(quantizer), torch.eye(D))


def test_the_gradient_of_w_is_that_of_the_codebook_loss():
    quantizer = make()
    z = torch.randn(40, D)
    basis = quantizer.codebook.embeddings.detach().clone()
    out = quantizer(z)
    out.codebook_loss.backward()
    w = torch.eye(D, requires_grad=True)
    F.mse_loss(basis[out.indices] @ w, z).backward()
    torch.testing.assert_close(weight(quantizer).grad, w.grad)


def test_codes_that_no_vector_chose_move_too():
    quantizer = make()
    before = quantizer.codebook.embeddings.detach().clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=1.0)
    out = quantizer(torch.randn(1, D))
    out.codebook_loss.backward()
    optimizer.step()
    moved = (quantizer.codebook.embeddings - before).abs().amax(1) > 0
    assert moved.all()


def test_the_loss_falls_while_the_basis_stays():
    quantizer = make()
    z = torch.randn(200, D) @ torch.randn(D, D)
    basis = quantizer.codebook.parametrizations.embeddings.original.clone()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        loss = quantizer(z).codebook_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(quantizer.codebook.parametrizations.embeddings.original, basis)


def test_data_init_becomes_the_basis():
    quantizer = make(init="data")
    with torch.no_grad():
        weight(quantizer).mul_(3)
    z = torch.randn(300, D)
    quantizer.initialize_codebook(z)
    assert torch.equal(weight(quantizer), torch.eye(D))
    nearest = (
        torch.cdist(z, quantizer.codebook.embeddings.detach()).min(1).values.square().mean() / D
    )
    assert nearest < 0.5 * z.var()


def test_forward_gives_exact_rows_and_lookup_the_same():
    quantizer = make()
    with torch.no_grad():
        weight(quantizer).add_(torch.randn(D, D))
    z = torch.randn(30, D)
    out = quantizer(z)
    assert torch.equal(out.z_q, quantizer.lookup(out.indices))
    assert torch.equal(out.z_q, quantizer.codebook.embeddings[out.indices])


def test_inside_autocast_codes_stay_float32():
    quantizer = make()
    with torch.autocast("cpu", torch.bfloat16):
        assert quantizer.codebook.embeddings.dtype == torch.float32
    assert quantizer.bfloat16().codebook.embeddings.dtype == torch.float32


def test_state_and_copies_keep_the_codes():
    quantizer, other = make(), make()
    with torch.no_grad():
        weight(quantizer).add_(torch.randn(D, D))
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.codebook.embeddings, quantizer.codebook.embeddings)
    assert torch.equal(deepcopy(quantizer).codebook.embeddings, quantizer.codebook.embeddings)


def test_counts_follow_the_decay():
    quantizer = make()
    z = torch.randn(50, D)
    out = quantizer(z)
    n = torch.bincount(out.indices, minlength=K).float()
    torch.testing.assert_close(quantizer.codebook.cluster_size, 0.1 * n)


def test_restart_and_bad_decay_are_refused():
    with pytest.raises(UserError, match="LinearMap, whose codes only move together"):
        Codebook(K, D, update=LinearMap(), restart=Restart())
    with pytest.raises(UserError, match="decay"):
        LinearMap(1.0)
