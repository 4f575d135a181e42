"""The adversarial loss: by hand, with a linear discriminator, and side by side."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rotvq.training.adversarial import (
    PENALIZE_EVERY,
    PENALTY,
    PatchDiscriminator,
    adversarial_losses,
    gradient_penalty,
    hinge_loss,
    ramp,
)


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    return PatchDiscriminator(3, (8, 16, 16))


def images(seed, n=4):
    return torch.rand(n, 3, 8, 12, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_hinge_loss_by_hand():
    real, fake = torch.tensor([3.0, 0.5, -1.0]), torch.tensor([-3.0, 0.5, 0.0])
    assert hinge_loss(real, fake) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1.5 + 1) / 3)


def test_the_gradient_penalty_of_a_linear_discriminator():
    """Mean logits w·x/hw + b have the gradient w/hw at every pixel: its square is |w|²/hw."""
    linear = nn.Conv2d(3, 1, 1)
    expected = linear.weight.square().sum() / (8 * 12)
    torch.testing.assert_close(gradient_penalty(linear, images(0)), expected)


def test_an_image_is_judged_alone(discriminator):
    x = images(0)
    torch.testing.assert_close(discriminator(x)[1:2], discriminator(x[1:2]))


@pytest.mark.parametrize(
    ("sides", "grid"), [((4, 4), (1, 1)), ((32, 32), (8, 8)), ((20, 9), (5, 2))]
)
def test_a_logit_covers_a_patch(discriminator, sides, grid):
    assert discriminator(torch.zeros(2, 3, *sides)).shape == (2, 1, *grid)


@pytest.mark.parametrize("penalize", [False, True])
def test_each_side_has_the_gradient_of_its_own_loss(discriminator, penalize):
    """One sum, one backward pass; the oracle takes two, with the other side frozen."""
    other = copy.deepcopy(discriminator)
    x, y = images(0), images(1).requires_grad_()
    losses = adversarial_losses(discriminator, x, y, penalize)
    (0.3 * losses["adversarial_loss"] + losses["discriminator_loss"]).backward()

    fake = y.detach().clone().requires_grad_()
    (-0.3 * other(fake).mean()).backward()
    torch.testing.assert_close(y.grad, fake.grad)
    other.zero_grad()
    loss = hinge_loss(other(x), other(y.detach()))
    if penalize:
        loss = loss + PENALTY / 2 * PENALIZE_EVERY * gradient_penalty(other, x)
    loss.backward()
    for p, q in zip(discriminator.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)


def test_the_ramp_begins_at_its_start_and_ends_a_tenth_later():
    found = [ramp(progress, 0.25) for progress in (0, 0.25, 0.3, 0.35, 1)]
    assert found == pytest.approx([0, 0, 0.5, 1, 1])
