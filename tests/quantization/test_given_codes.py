"""Codes that come from elsewhere: set, loaded or written by hand; shared; restarted apart."""

import pytest
import torch
from torch import Tensor

from rotvq import EMA, GradientLearned, LinearMap, ResidualQuantizer, Restart, VectorQuantizer
from rotvq.errors import UserError
from rotvq.quantization import health

K, D, DECAY = 16, 4, 0.99
UPDATES = [EMA(DECAY), GradientLearned(DECAY), LinearMap(DECAY)]


def codes(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(K, D, generator=torch.Generator().manual_seed(5))


def vectors(count: int = 20) -> Tensor:
    """`count` around each code, off by 1 in the mean."""
    g = torch.Generator().manual_seed(6)
    return codes().repeat(count, 1) + 0.1 * torch.randn(K * count, D, generator=g)


def share_moved(quantizer: VectorQuantizer, z: Tensor) -> Tensor:
    """How far of the way to the mean of its vectors each code went in one step."""
    before, indices = quantizer.codebook.embeddings.detach().clone(), quantizer.encode(z)
    means = torch.stack([z[indices == code].mean(0) for code in range(K)])
    quantizer(z)
    way = (means - before).norm(dim=1)
    return (quantizer.codebook.embeddings - before).norm(dim=1) / way


def by_hand(quantizer):
    quantizer.codebook.embeddings.copy_(codes())


def by_data(quantizer):
    quantizer.codebook.embeddings.data = codes()


def loaded(quantizer):
    quantizer.load_state_dict({"codebook.embeddings": codes()}, strict=False)


def over_old_codes(quantizer):
    for _ in range(50):
        quantizer(7 + vectors())
    quantizer.codebook.cluster_size.fill_(20.0)
    by_hand(quantizer)


def with_weight(quantizer):
    quantizer.codebook.set_codes(codes(), weight=20.0)


DECLARED = [loaded, over_old_codes, with_weight]


@pytest.mark.parametrize(
    "give, init",
    [(give, "uniform") for give in (by_hand, by_data, *DECLARED)]
    + [(give, "data") for give in DECLARED],
)
def test_gamma_means_gamma_in_the_first_step_of_given_codes(give, init):
    quantizer = VectorQuantizer(K, D, update=EMA(DECAY), init=init)
    give(quantizer)
    share = share_moved(quantizer, vectors())
    torch.testing.assert_close(share, torch.full((K,), 1 - DECAY), rtol=0.3, atol=0)


def test_the_uniform_start_is_the_papers_and_goes_to_the_data_at_once():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, update=EMA(DECAY))
    z = vectors()
    indices = quantizer(z).indices
    used = indices.unique()
    means = torch.stack([z[indices == code].mean(0) for code in used])
    torch.testing.assert_close(quantizer.codebook.embeddings[used], means)
    late = 3 + vectors()  # a code that is first chosen in a later step goes there at once too
    found = quantizer(late).indices
    fresh = [int(code) for code in found.unique() if code not in used]
    for code in fresh:
        torch.testing.assert_close(quantizer.codebook.embeddings[code], late[found == code].mean(0))


@pytest.mark.parametrize("give", [by_hand, loaded, with_weight])
def test_given_codes_outlive_a_batch_that_does_not_choose_them(give):
    quantizer = VectorQuantizer(K, D, update=EMA(DECAY), restart=Restart())
    give(quantizer)
    quantizer(codes()[:1].repeat(K, 1) + 0.01 * torch.randn(K, D))
    torch.testing.assert_close(quantizer.codebook.embeddings[1:], codes()[1:])
    assert health(quantizer.codebook).dead == 0


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: type(update).__name__)
@pytest.mark.parametrize("weight", [0.5, torch.arange(1.0, K + 1)])
@pytest.mark.parametrize("init", ["uniform", "data"])
def test_codes_are_set_with_their_weight(init, weight, update):
    quantizer = VectorQuantizer(K, D, update=update, init=init, defer_update=True)
    quantizer(9 + torch.randn(50, D))
    small = codes(scale=1e-3)  # within the uniform start
    quantizer.codebook.set_codes(small.double(), weight)
    N = torch.as_tensor(weight).expand(K)
    assert quantizer.codebook.ready and torch.equal(quantizer.codebook.embeddings, small)
    z, indices = vectors(), quantizer.encode(vectors())
    n = torch.bincount(indices, minlength=K)
    s = torch.zeros(K, D, dtype=torch.float64).index_add_(0, indices, z.double())
    quantizer(z)
    quantizer.update_codebook()
    expected = DECAY * N.double() + (1 - DECAY) * n
    torch.testing.assert_close(
        quantizer.codebook.cluster_size.double(), expected, rtol=1e-5, atol=0
    )
    if isinstance(update, EMA):
        m = DECAY * N.double()[:, None] * small.double() + (1 - DECAY) * s
        found = quantizer.codebook.embeddings.double()
        torch.testing.assert_close(found, m / expected[:, None], rtol=1e-4, atol=1e-6)
    else:
        assert torch.equal(quantizer.codebook.embeddings, small)


@pytest.mark.parametrize(
    "wrong, weight, message",
    [
        (torch.zeros(K, D + 1), 1.0, r"codes: .* shape \(16, 4\); got shape \(16, 5\)"),
        (torch.full((K, D), torch.nan), 1.0, r"shape \(16, 4\); got nan or inf"),
        (torch.zeros(K, D), torch.ones(K + 1), r"one number or 16; got shape \(17,\)"),
        (torch.zeros(K, D), 0.0, "weight: expected counts above 0; got 0.0"),
        (torch.zeros(K, D), torch.nan, "weight: expected counts above 0; got nan"),
        (torch.zeros(K, D), torch.inf, "weight: expected counts above 0; got inf"),
    ],
)
def test_invalid_codes_are_refused(wrong, weight, message):
    quantizer = VectorQuantizer(K, D)
    before = quantizer.codebook.embeddings.clone()
    with pytest.raises(UserError, match=message):
        quantizer.codebook.set_codes(wrong, weight)
    assert torch.equal(quantizer.codebook.embeddings, before)


# Restarts


@pytest.mark.parametrize("parts", [1, 4])
def test_restarted_codes_differ_from_each_other_and_from_other_codes(parts):
    torch.manual_seed(0)
    k = 64
    quantizer = VectorQuantizer(
        k, D, update=EMA(0.5), restart=Restart(0.1), init="data", defer_update=True
    )
    quantizer.codebook.set_codes(2.0 + 1e3 * torch.randn(k, D))
    z = torch.cat([torch.full((3000, D), 2.0), torch.randn(600, D)])[torch.randperm(3600)]
    for _ in range(20):
        for rows in z.chunk(parts):
            quantizer(rows)
        quantizer.update_codebook()
        assert len(quantizer.codebook.embeddings.unique(dim=0)) == k
    background = (quantizer.codebook.embeddings - 2).norm(dim=1) < 1e-3
    assert background.sum() <= 2
    assert quantizer.encode(z).unique().numel() > 0.8 * k


# Shared


@pytest.mark.parametrize("defer", [False, True])
def test_a_codebook_that_levels_share_steps_once(defer):
    torch.manual_seed(0)
    options = dict(update=EMA(DECAY), restart=Restart(), defer_update=defer)
    levels = [VectorQuantizer(K, D, **options) for _ in range(3)]
    for level in levels:
        level.codebook = levels[0].codebook
    levels[0].codebook.set_codes(codes(), 20.0)
    quantizer = ResidualQuantizer(levels)
    alone = VectorQuantizer(K, D, update=EMA(DECAY), defer_update=True)
    alone.codebook.set_codes(codes(), 20.0)
    z = vectors()
    out = quantizer(z)
    if defer:
        assert torch.equal(quantizer.quantizers[0].codebook.embeddings, codes())
        quantizer.update_codebook()
    rest = z
    for level in range(3):
        found = alone(rest)
        assert torch.equal(found.indices, out.indices[..., level])
        rest = rest - found.z_q
    alone.update_codebook()
    for name in ("embeddings", "cluster_size", "embed_sum", "idle"):
        found, expected = getattr(levels[0].codebook, name), getattr(alone.codebook, name)
        torch.testing.assert_close(found, expected)
