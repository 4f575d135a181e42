"""Losses summed by a loop, and which tensor each gradient reaches."""

import math

import pytest
import torch
from one_quantizer import D, make, vectors

from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.updates import GradientLearned


def test_the_losses_are_means_over_elements():
    quantizer = make().eval()
    z = vectors(3, 4, D)
    out = quantizer(z)
    total, count = 0.0, 0
    for row, i in zip(z.view(-1, D).tolist(), out.indices.view(-1).tolist(), strict=True):
        for x, y in zip(row, quantizer.codebook.embeddings[i].tolist(), strict=True):
            total, count = total + (x - y) ** 2, count + 1
    for loss in (out.commitment_loss, out.codebook_loss):
        assert loss.dtype == torch.float32 and loss.shape == ()
        assert math.isclose(float(loss), total / count, rel_tol=1e-5)


def test_the_losses_do_not_depend_on_the_batch_size():
    quantizer = make().eval()
    z = vectors(3, 4, D)
    once, thrice = quantizer(z), quantizer(torch.cat([z, z, z]))
    torch.testing.assert_close(once.commitment_loss, thrice.commitment_loss)
    torch.testing.assert_close(once.codebook_loss, thrice.codebook_loss)


def test_the_commitment_loss_pulls_only_the_vectors():
    quantizer = make(update=GradientLearned())
    z = vectors(6, D).requires_grad_()
    out = quantizer(z)
    out.commitment_loss.backward()
    expected = 2 * (z.detach() - quantizer.codebook.embeddings.detach()[out.indices]) / z.numel()
    torch.testing.assert_close(z.grad, expected)
    assert (
        quantizer.codebook.embeddings.grad is None or not quantizer.codebook.embeddings.grad.any()
    )


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_a_learned_codebook_is_moved_by_the_codebook_loss_alone(estimator):
    quantizer = make(update=GradientLearned(), estimator=estimator)
    e = quantizer.codebook.embeddings
    z = vectors(6, D).requires_grad_()
    out = quantizer(z)
    out.z_q.square().sum().backward(retain_graph=True)
    assert z.grad.any() and (e.grad is None or not e.grad.any())
    z.grad = None
    out.codebook_loss.backward()
    assert z.grad is None or not z.grad.any()
    expected = torch.zeros_like(e)
    for row, i in zip(z.detach(), out.indices.tolist(), strict=True):
        expected[i] += 2 * (e.detach()[i] - row) / z.numel()
    torch.testing.assert_close(e.grad, expected)


def test_a_learned_codebook_learns():
    quantizer = make(update=GradientLearned())
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    z, losses = vectors(200, D), []
    for _ in range(30):
        out = quantizer(z)
        optimizer.zero_grad()
        out.codebook_loss.backward()
        optimizer.step()
        losses.append(float(out.codebook_loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_an_averaged_codebook_has_no_parameter_and_no_gradient():
    quantizer = make()
    out = quantizer(vectors(6, D).requires_grad_())
    assert not list(quantizer.parameters()) and not quantizer.codebook.embeddings.requires_grad
    assert not out.codebook_loss.requires_grad and not out.indices.requires_grad


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_the_estimators_gradient_arrives_unchanged_in_either_mode(estimator, training):
    quantizer = make(estimator=estimator).train(training)
    e, g = quantizer.codebook.embeddings.clone(), vectors(6, D, seed=3)
    z = vectors(6, D).requires_grad_()
    out = quantizer(z)
    out.z_q.backward(g)
    alone = z.detach().clone().requires_grad_()
    ESTIMATORS[estimator](alone, e[out.indices]).backward(g)
    torch.testing.assert_close(z.grad, alone.grad)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_a_gradient_can_be_differentiated(estimator, metric):
    """As a gradient penalty does."""
    torch.manual_seed(0)
    quantizer = make(estimator=estimator, metric=metric).eval()
    z = vectors(20, D).requires_grad_()
    loss = quantizer(z).z_q.pow(3).sum()
    (plain,) = torch.autograd.grad(loss, z, retain_graph=True)
    (slope,) = torch.autograd.grad(loss, z, create_graph=True)
    torch.testing.assert_close(slope, plain)
    (second,) = torch.autograd.grad(slope.square().sum(), z)
    assert second.isfinite().all() and second.any()


def test_a_backward_after_the_update_uses_the_codes_of_the_forward():
    now, later = make(), make(defer_update=True)
    grads = []
    for quantizer in (now, later):
        z = vectors(50, D).requires_grad_()
        out = quantizer(z)
        (out.z_q.square().sum() + out.commitment_loss).backward()
        grads.append(z.grad)
    assert torch.equal(*grads)
