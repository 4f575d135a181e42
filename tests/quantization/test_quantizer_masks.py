"""Masked tokens, NaN and infinity: what must not count does not."""

import pytest
import torch
from every_quantizer import assert_same_state, state
from one_quantizer import D, K, make, vectors

from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.quantizer import VectorQuantizer
from rotvq.quantization.restart import Restart


@pytest.mark.parametrize("channel_dim", [-1, 1])
@pytest.mark.parametrize("restart", [None, Restart()])
@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_masked_tokens_change_nothing_even_if_they_hold_nan(estimator, restart, channel_dim):
    options = dict(estimator=estimator, restart=restart)
    masked, clean = make(**options, channel_dim=channel_dim), make(**options)
    mask = torch.rand(3, 8, generator=torch.Generator().manual_seed(5)) < 0.6
    z = vectors(3, 8, D)
    dirty = z.clone()
    dirty[~mask] = torch.tensor([float("nan"), float("inf"), -float("inf"), 3e38, 0.0])
    dirty = dirty.movedim(-1, channel_dim).clone().requires_grad_()
    kept = z[mask].clone().requires_grad_()
    torch.manual_seed(1)
    a = masked(dirty, mask)
    torch.manual_seed(1)
    b = clean(kept)
    z_q = a.z_q.movedim(channel_dim, -1)
    assert torch.equal(z_q[mask], b.z_q) and not z_q[~mask].any()
    assert torch.equal(a.indices[mask], b.indices) and (a.indices[~mask] == -1).all()
    torch.testing.assert_close(a.commitment_loss, b.commitment_loss)
    torch.testing.assert_close(a.codebook_loss, b.codebook_loss)
    g = vectors(3, 8, D, seed=6)
    (a.z_q.movedim(channel_dim, -1) * g).sum().backward(retain_graph=True)
    (b.z_q * g[mask]).sum().backward(retain_graph=True)
    a.commitment_loss.backward()
    b.commitment_loss.backward()
    grad = dirty.grad.movedim(channel_dim, -1)
    torch.testing.assert_close(grad[mask], kept.grad)
    assert not grad[~mask].any()  # NaN would be true
    if restart is None:
        assert_same_state(masked, clean)
    assert all(x.isfinite().all() for x in state(masked).values())
    encoded = masked.eval().encode(dirty.detach(), mask)
    assert torch.equal(encoded, masked(dirty.detach(), mask).indices)
    assert torch.equal(encoded == -1, ~mask)
    recovered = masked.lookup(encoded).movedim(channel_dim, -1)
    assert not recovered[~mask].any()
    assert torch.equal(recovered[mask], masked.codebook.embeddings[encoded[mask]])


def test_a_mask_of_all_true_is_no_mask():
    a, b = make(), make()
    z = vectors(4, D)
    torch.testing.assert_close(vars(a(z, torch.ones(4, dtype=torch.bool))), vars(b(z)))
    assert_same_state(a, b)


@pytest.mark.parametrize("options", [{}, {"restart": Restart()}, {"init": "data"}])
def test_all_masked_gives_losses_of_zero_and_moves_no_code(options):
    quantizer = make(**options)
    if "init" not in options:
        quantizer(vectors(100, D))
    before = quantizer.codebook.embeddings.clone()
    z = torch.full((4, D), float("nan"), requires_grad=True)
    out = quantizer(z, torch.zeros(4, dtype=torch.bool))
    assert float(out.commitment_loss.detach()) == 0 == float(out.codebook_loss.detach())
    assert not out.z_q.any() and (out.indices == -1).all()
    (out.z_q.sum() + out.commitment_loss).backward()
    assert not z.grad.any()
    torch.testing.assert_close(quantizer.codebook.embeddings, before)


def test_data_initialization_waits_for_the_first_usable_batch():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, init="data")
    quantizer(vectors(20, D), torch.zeros(20, dtype=torch.bool))
    z = 50 + vectors(200, D)
    quantizer(z)
    assert (quantizer.codebook.embeddings.mean(0) - 50).abs().max() < 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("restart", [None, Restart()])
@pytest.mark.parametrize("init", ["uniform", "data"])
def test_a_bad_vector_never_enters_the_codebook(bad, restart, init):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, restart=restart, init=init)
    for seed in range(3):
        z = vectors(40, D, seed=seed)
        z[7, 2], z[8] = bad, bad
        out = quantizer(z)
        assert not out.commitment_loss.isfinite() or bad == 3e38
        assert 0 <= int(out.indices.min()) and int(out.indices.max()) < K
        assert all(x.isfinite().all() for x in state(quantizer).values())
        assert quantizer.codebook.embeddings.abs().max() < 10
    assert quantizer(vectors(40, D)).commitment_loss.isfinite()


def test_a_bad_vector_counts_as_if_it_were_not_there():
    a, b = make(), make()
    z = vectors(40, D)
    bad = torch.cat([z, torch.full((1, D), float("nan"))])
    a(bad)
    b(z)
    assert_same_state(a, b)
