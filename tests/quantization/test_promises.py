"""The guarantees of docs/guarantees.md, checked for every quantizer alike."""

import copy
import math

import pytest
import torch
from every_quantizer import (
    ALL,
    DISCRETE,
    HALF,
    OF_EACH_KIND,
    K,
    assert_same_state,
    each,
    leaves,
    made,
    state,
    vectors,
)

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer, health


@each(DISCRETE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_values_are_codes_bit_for_bit(make, dtype, channel_dim):
    quantizer = made(make, channel_dim=channel_dim)
    z = vectors(quantizer, 3, 40).to(dtype).movedim(-1, channel_dim)
    then = copy.deepcopy(quantizer)  # a step in training moves the codes afterwards
    for out in (quantizer(z), quantizer.eval()(z)):
        assert torch.equal(then.lookup(out.indices).to(dtype), out.z_q)
        assert torch.equal(then.encode(z), out.indices)
        assert out.z_q.shape == z.shape and out.z_q.dtype == dtype
        assert out.indices.shape == (3, 40, *quantizer.index_shape)
        then = quantizer


@each(DISCRETE)
def test_decoding_tokens_gives_the_forward_pass(make):
    quantizer = made(make, channel_dim=1)
    model = VQVAE(width=8, dim=quantizer.dim, depth=1, quantizer=quantizer).eval()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(model.decode(model.encode(x)), model(x).reconstruction)


@each(ALL)
@pytest.mark.parametrize("held", [0.0, math.nan, math.inf, -3e38])
def test_masked_tokens_change_nothing_whatever_they_hold(make, held):
    one, other = made(make), made(make)
    mask = torch.rand(3, 20, generator=torch.Generator().manual_seed(5)) < 0.6
    clean = vectors(one, 3, 20)
    z = clean.where(mask.unsqueeze(-1), held).requires_grad_()
    kept = clean[mask].requires_grad_()
    torch.manual_seed(2)
    masked = one(z, mask)
    torch.manual_seed(2)
    alone = other(kept)
    assert torch.equal(masked.z_q[mask], alone.z_q) and not masked.z_q[~mask].any()
    assert torch.equal(masked.indices[mask], alone.indices)
    assert (masked.indices[~mask] == -1).all()
    for name in ("commitment_loss", "codebook_loss", "entropy_loss"):
        torch.testing.assert_close(getattr(masked, name), getattr(alone, name))
    g = vectors(one, 3, 20, seed=6)
    ((masked.z_q * g).sum() + masked.commitment_loss).backward()
    ((alone.z_q * g[mask]).sum() + alone.commitment_loss).backward()
    torch.testing.assert_close(z.grad[mask], kept.grad)
    assert not z.grad[~mask].any()
    if not any(getattr(m, "restart", None) for m in one.modules()):
        assert_same_state(one, state(other))
    found = one.eval().encode(z.detach(), mask)
    assert torch.equal(found[mask], one.encode(kept.detach())) and (found[~mask] == -1).all()
    assert not one.lookup(found)[~mask].any()


@each(ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_gets_an_index_and_harms_no_other(make, bad):
    quantizer = made(make)
    z = vectors(quantizer, 30)
    rest = torch.arange(30) != 7
    expected = quantizer.encode(z)
    z[7, 0] = bad
    out = quantizer(z)
    assert torch.equal(out.indices[rest], expected[rest])
    assert out.z_q[rest].isfinite().all()
    assert all(t.isfinite().all() for t in state(quantizer).values())
    found = quantizer.eval().encode(z)[7]
    assert quantizer.lookup(found).isfinite().all() and (found >= 0).all()
    if math.isnan(bad):
        assert out.commitment_loss.isnan(), "nan would go unnoticed"


@each(ALL)
def test_evaluation_changes_nothing(make):
    quantizer = made(make).eval()
    before = state(quantizer)
    z = vectors(quantizer, 2, 20).requires_grad_()
    out = quantizer(z)
    (out.z_q.sum() + out.commitment_loss).backward()
    quantizer(torch.full_like(z, math.nan), torch.ones(2, 20, dtype=torch.bool))
    quantizer.lookup(quantizer.encode(z))
    for leaf in leaves(quantizer):
        health(leaf.codebook)
    assert_same_state(quantizer, before, rtol=0, atol=0)


@each(OF_EACH_KIND)
def test_health_has_its_numbers(make):
    quantizer = made(make)
    quantizer(vectors(quantizer, 500))
    for leaf in leaves(quantizer):
        found = health(leaf.codebook)
        assert 0 <= found.dead <= len(leaf.codebook) and found.oldest >= 0
        counted = isinstance(leaf, VectorQuantizer)
        assert math.isnan(found.perplexity) != counted and len(found.spread) == 7
        assert not counted or 1 <= found.perplexity <= K


@each(OF_EACH_KIND)
def test_a_saved_model_has_the_same_tokens(make, tmp_path):
    quantizer = made(make, channel_dim=1)
    model = VQVAE(width=8, dim=quantizer.dim, depth=1, quantizer=quantizer)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    model(x).loss().backward()
    model.save_pretrained(tmp_path)
    back = VQVAE.from_pretrained(tmp_path)
    assert_same_state(back, state(model), rtol=0, atol=0)
    indices = model.eval().encode(x)
    assert torch.equal(back.encode(x), indices)
    assert torch.equal(back.decode(indices), model.decode(indices))
    copied = VQVAE(width=8, dim=quantizer.dim, depth=1, quantizer=make(channel_dim=1))
    copied.load_state_dict(model.state_dict())
    assert torch.equal(copied.eval().encode(x), indices)


@each(ALL)
def test_the_size_of_a_batch_changes_no_token(make):
    quantizer = made(make).eval()
    z = vectors(quantizer, 500)
    expected = quantizer.encode(z)
    for size in (1, 3, 64):
        found = torch.cat([quantizer.encode(part) for part in z.split(size)])
        assert torch.equal(found, expected), size
