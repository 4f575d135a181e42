"""Metrics against numpy in double precision, and sums that do not care how batches are cut."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rotvq.errors import UserError
from rotvq.evaluation.metrics import Totals, perplexity, psnr, usage
from rotvq.model import VQVAEOutput


def entropy_oracle(counts):
    p = np.asarray(counts, dtype=np.float64)
    p = p[p > 0] / p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize(
    "counts",
    [
        [5],
        [0, 0, 7, 0],
        [3, 3, 3, 3],
        [1, 2, 3, 4, 0],
        [10**9, 1],
        [2**40, 2**40, 2**41],
        list(range(1024)),
        np.random.default_rng(0).geometric(0.001, 1024).tolist(),
    ],
)
def test_perplexity_is_exp_of_the_entropy(counts):
    found = perplexity(torch.tensor(counts)).item()
    assert found == pytest.approx(entropy_oracle(counts), rel=1e-4)
    assert 1 - 1e-5 <= found <= len(counts) * (1 + 1e-5)


def test_perplexity_of_nothing_is_one():
    assert perplexity(torch.zeros(8, dtype=torch.int64)).item() == 1.0


@pytest.mark.parametrize(
    ("counts", "share"), [([0, 0], 0.0), ([1, 0, 9, 0], 0.5), ([1, 1, 1], 1.0), ([0, 0, 5], 1 / 3)]
)
def test_usage_is_the_share_of_codes_that_occur(counts, share):
    assert usage(torch.tensor(counts)).item() == pytest.approx(share)


@pytest.mark.parametrize("mse", [4.0, 1.0, 0.01, 3e-7])
def test_psnr_has_peak_two(mse):
    assert psnr(mse) == pytest.approx(20 * np.log10(2) - 10 * np.log10(mse))


def test_psnr_on_pixels_is_the_usual_one():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 256, (2, 5, 5)).astype(np.float64)
    usual = 10 * np.log10(255**2 / ((a - b) ** 2).mean())
    ours = psnr((((a - b) / 127.5) ** 2).mean())
    assert ours == pytest.approx(usual)


def test_psnr_at_its_ends():
    assert psnr(0.0) == math.inf
    assert math.isnan(psnr(math.nan)) and math.isnan(psnr(-1.0))
    assert psnr(math.inf) == -math.inf


def output(images, seed):
    """An output with made-up losses."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(3, generator=generator)
    moments = torch.rand(2, 5, generator=generator) + 1
    indices = torch.randint(0, 6, (images, 2, 3), generator=generator)
    latents = torch.zeros(images, 5, 2, 3)
    zero = torch.zeros(())
    return VQVAEOutput(torch.zeros(images, 3, 8, 8), indices, latents, *losses, zero, moments)


SIZES = (5, 8, 1, 3)


def test_totals_equal_what_is_computed_directly():
    outputs = [output(n, seed) for seed, n in enumerate(SIZES)]
    totals = Totals([8], 5)
    for one in outputs:
        totals.add(one)
    means = totals.means(beta=0.3)

    def weighted(name):
        values = [float(getattr(one, name)) for one in outputs]
        return float(np.average(np.asarray(values, np.float64), weights=SIZES))

    counts = np.bincount(torch.cat([one.indices.flatten() for one in outputs]), minlength=8)
    each = [np.bincount(one.indices.flatten().numpy(), minlength=8) for one in outputs]
    assert means.reconstruction_loss == pytest.approx(weighted("reconstruction_loss"), rel=1e-6)
    assert means.codebook_loss == pytest.approx(weighted("codebook_loss"), rel=1e-6)
    assert means.commitment_loss == pytest.approx(weighted("commitment_loss"), rel=1e-6)
    mean, variance = (
        np.stack([one.latent_moments[i].double().numpy() for one in outputs]) for i in (0, 1)
    )
    share = np.asarray(SIZES)[:, None] / sum(SIZES)
    center = (share * mean).sum(0)
    pooled = (share * (variance + (mean - center) ** 2)).sum(0).mean()
    assert means.relative_error == pytest.approx(means.commitment_loss / pooled, rel=1e-6)
    assert means.loss == pytest.approx(
        means.reconstruction_loss + means.codebook_loss + 0.3 * means.commitment_loss
    )
    assert totals.counts.tolist() == counts.tolist()
    assert means.perplexity == pytest.approx(entropy_oracle(counts), rel=1e-5)
    assert means.batch_perplexity == pytest.approx(np.mean([*map(entropy_oracle, each)]), rel=1e-5)
    assert means.usage == pytest.approx(6 / 8)
    assert totals.images == sum(SIZES)


def test_each_codebook_is_counted_alone_and_the_headline_is_the_mean():
    sizes, generator = [4, 9, 6], torch.Generator().manual_seed(3)
    outputs = [
        replace(
            output(n, 0),
            indices=torch.stack(
                [torch.randint(0, k - 1, (n, 2, 3), generator=generator) for k in sizes], -1
            ),
        )
        for n in (5, 2)
    ]
    totals = Totals(sizes, 5)
    for one in outputs:
        totals.add(one)

    def counted(some):
        together = torch.cat([one.indices for one in some])
        return [np.bincount(together[..., i].flatten(), minlength=k) for i, k in enumerate(sizes)]

    counts, means = counted(outputs), totals.means(0.25)
    assert totals.counts.tolist() == np.concatenate(counts).tolist()
    for each, wanted in zip(totals.codebooks, counts, strict=True):
        assert (each.size, each.codes_used) == (len(wanted), (wanted > 0).sum())
        assert each.perplexity == pytest.approx(entropy_oracle(wanted), rel=1e-5)
        assert each.usage == pytest.approx((wanted > 0).mean())
    assert means.perplexity == pytest.approx(np.mean([*map(entropy_oracle, counts)]), rel=1e-5)
    assert means.usage == pytest.approx(np.mean([(c > 0).mean() for c in counts]))
    by_batch = [np.mean([*map(entropy_oracle, counted([one]))]) for one in outputs]
    assert means.batch_perplexity == pytest.approx(np.mean(by_batch), rel=1e-5)


def test_more_codes_than_can_be_counted_are_refused():
    with pytest.raises(UserError, match="at most 16,777,216 codes to count the use of; got 2"):
        Totals([2**31], 5)


def test_totals_hold_no_graph():
    one = output(2, 0)
    loss = one.reconstruction_loss.clone().requires_grad_()
    totals = Totals([8], 5)
    totals.add(replace(one, reconstruction_loss=loss * 2))
    assert not totals.sums.requires_grad


def test_totals_of_nothing_are_nan():
    means = Totals([4], 5).means(0.25)
    assert math.isnan(means.loss)
    assert math.isnan(means.batch_perplexity)
    assert (means.perplexity, means.usage) == (1.0, 0.0)


def test_totals_continue_from_their_state():
    whole, first, second = Totals([8], 5), Totals([8], 5), Totals([8], 5)
    for seed in range(4):
        whole.add(output(3, seed))
        if seed < 2:
            first.add(output(3, seed))
    state = {k: v.clone() if torch.is_tensor(v) else v for k, v in first.state_dict().items()}
    second.load_state_dict(state)
    for seed in (2, 3):
        second.add(output(3, seed))
    assert second.means(0.25) == whole.means(0.25)
    assert torch.equal(second.counts, whole.counts)
    assert first.images == 6, "the state that was taken up is a copy"


def test_reduce_does_nothing_in_one_process():
    totals = Totals([8], 5)
    totals.add(output(3, 0))
    before = totals.means(0.25)
    totals.reduce()
    assert totals.means(0.25) == before


def test_a_nan_loss_is_not_hidden():
    totals = Totals([8], 5)
    totals.add(output(3, 0))
    totals.add(replace(output(3, 1), codebook_loss=torch.tensor(math.nan)))
    assert math.isnan(totals.means(0.25).loss)


def test_outputs_that_are_not_counted_change_nothing():
    totals = Totals([8], 5)
    totals.add(output(3, 0))
    before = totals.means(0.25)
    totals.add(output(3, 1), counts=torch.tensor(False))
    assert totals.means(0.25) == before
    totals.add(output(3, 1), counts=torch.tensor(True))
    assert totals.images == 6


def test_reduce_sums_over_all_processes(monkeypatch):
    dist = "rotvq.evaluation.metrics.dist"
    monkeypatch.setattr(f"{dist}.is_initialized", lambda: True)
    monkeypatch.setattr(f"{dist}.all_reduce", lambda t: t.mul_(2))  # two with the same totals
    totals = Totals([8], 5)
    totals.add(output(3, 0))
    before, counts = totals.means(0.25), totals.counts.clone()
    totals.reduce()
    assert totals.images == 6 and torch.equal(totals.counts, 2 * counts)
    assert vars(totals.means(0.25)) == pytest.approx(vars(before))
