"""The codebook against equations 3 to 5 written as a loop over vectors and codes in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.quantization.codebook import Codebook
from rotvq.quantization.restart import Restart
from rotvq.quantization.updates import EMA, UPDATES, GradientLearned

DECAY = 0.9
RESTART = Restart(threshold=0.03)


def ema_loop(e: Tensor, updates: list[tuple[Tensor, Tensor]], decay: float):
    """(e, N, m) after the updates, each of (vectors, indices), from N = 0 and m = 0."""
    k, d = e.shape
    e = [[float(x) for x in row] for row in e]
    N, m = [0.0] * k, [[0.0] * d for _ in range(k)]
    for z, indices in updates:
        for i in range(k):
            mine = z.double()[indices == i].tolist()
            N[i] = decay * N[i] + (1 - decay) * len(mine)
            for c in range(d):
                m[i][c] = decay * m[i][c] + (1 - decay) * sum(row[c] for row in mine)
                if N[i] > 0:
                    e[i][c] = m[i][c] / N[i]
    return (torch.tensor(x, dtype=torch.float64) for x in (e, N, m))


def everything(n: int) -> Tensor:
    return torch.ones(n, dtype=torch.bool)


def batches(count: int, n: int, used: int, d: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, d, generator=g), torch.randint(used, (n,), generator=g))
        for _ in range(count)
    ]


def tight_clusters(k: int, d: int, n: int, seed: int = 0) -> Tensor:
    """n vectors, n/k a cluster, that lie 1e-3 around k centers which are far apart."""
    g = torch.Generator().manual_seed(seed)
    centers = 100 * torch.randn(k, d, generator=g)
    return centers.repeat(n // k, 1) + 1e-3 * torch.randn(n, d, generator=g)


def test_uniform_initialization():
    torch.manual_seed(0)
    codebook = Codebook(50, 40)
    assert codebook.embeddings.shape == (50, 40) and codebook.embeddings.dtype == torch.float32
    assert codebook.cluster_size.shape == (50,) and codebook.embed_sum.shape == (50, 40)
    assert codebook.embeddings.abs().max() <= 1 / 50
    assert codebook.embeddings.abs().max() > 0.98 / 50 and abs(codebook.embeddings.mean()) < 1e-3
    assert not codebook.cluster_size.any() and not codebook.embed_sum.any()
    names = {name for name, _ in codebook.named_buffers()}
    assert {"embeddings", "cluster_size", "embed_sum"} <= names and not list(codebook.parameters())


def test_the_moving_average_is_the_papers():
    torch.manual_seed(0)
    codebook = Codebook(6, 3, update=EMA(decay=DECAY))
    start = codebook.embeddings.clone()
    updates = batches(3, 40, 5, 3) + batches(3, 2, 2, 3, seed=1)  # later, most codes go unused
    for z, indices in updates:
        codebook.accumulate(z, indices, everything(len(z)))
        codebook.step()
    e, N, m = ema_loop(start, updates, DECAY)
    torch.testing.assert_close(codebook.cluster_size.double(), N, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(codebook.embed_sum.double(), m, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(codebook.embeddings.double(), e, rtol=1e-4, atol=1e-6)
    assert torch.equal(codebook.embeddings[5], start[5])  # never used


def test_a_decay_that_is_assigned_counts_from_the_next_step():
    torch.manual_seed(0)
    codebook, other = Codebook(6, 3, update=EMA(decay=0.5)), Codebook(6, 3, update=EMA(decay=DECAY))
    other.load_state_dict(codebook.state_dict())
    (first, second) = batches(2, 40, 6, 3)
    codebook.decay = DECAY
    for each in (codebook, other):
        each.accumulate(*first, everything(40))
        each.step()
    assert torch.equal(codebook.embed_sum, other.embed_sum) and codebook.decay == DECAY
    codebook.load_state_dict(other.state_dict())  # does not bring back the old value
    copied = copy.deepcopy(codebook)
    for each in (codebook, other, copied):
        each.accumulate(*second, everything(40))
        each.step()
    assert torch.equal(codebook.embed_sum, other.embed_sum)
    assert torch.equal(copied.embed_sum, other.embed_sum)
    assert codebook.update == EMA(decay=0.5)


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
def test_a_decay_out_of_range_is_refused(value):
    codebook = Codebook(2, 1)
    with pytest.raises(UserError, match="decay: expected 0 <= decay < 1; got"):
        codebook.decay = value
    assert codebook.decay == 0.99


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_a_step_of_an_update_changes_none_of_its_arguments(update):
    g = torch.Generator().manual_seed(0)
    state = (
        torch.randn(4, 3, generator=g),
        torch.rand(4, generator=g),
        torch.randn(4, 3, generator=g),
    )
    given = (*state, torch.rand(4, generator=g), torch.randn(4, 3, generator=g), torch.tensor(0.1))
    before = [t.clone() for t in given]
    _, N, m = update(0.9).step(*given)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    torch.testing.assert_close(N, 0.9 * before[1] + 0.1 * before[3])
    if update is not EMA:  # whose codes were written from outside
        torch.testing.assert_close(m, 0.9 * before[2] + 0.1 * before[4])


def test_the_first_update_puts_a_used_code_at_its_mean():
    codebook = Codebook(3, 2)
    z = torch.tensor([[1.0, 2.0], [3.0, 6.0], [-5.0, 0.5]])
    codebook.accumulate(z, torch.tensor([0, 0, 2]), everything(3))
    codebook.step()
    torch.testing.assert_close(codebook.embeddings[0], torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(codebook.embeddings[2], z[2])


def test_a_code_that_goes_unused_for_long_stays_where_it_was():
    codebook = Codebook(2, 2, update=EMA(decay=0.5))
    z = torch.tensor([[3.0, -4.0], [1.0, 1.0]])
    codebook.accumulate(z, torch.tensor([0, 1]), everything(2))
    codebook.step()
    for _ in range(400):  # 0.5^400 is zero in float32
        codebook.accumulate(z[1:], torch.tensor([1]), everything(1))
        codebook.step()
    torch.testing.assert_close(codebook.embeddings[0], z[0], rtol=1e-4, atol=0)
    assert codebook.embeddings.isfinite().all()


def test_micro_batches_add_up():
    torch.manual_seed(0)
    one, four = Codebook(6, 3, update=EMA(decay=DECAY)), Codebook(6, 3, update=EMA(decay=DECAY))
    four.load_state_dict(one.state_dict())
    for z, indices in batches(3, 40, 6, 3):
        one.accumulate(z, indices, everything(40))
        for part in range(4):
            rows = slice(10 * part, 10 * part + 10)
            four.accumulate(z[rows], indices[rows], everything(10))
        one.step()
        four.step()
    for name in ("embeddings", "cluster_size", "embed_sum"):
        torch.testing.assert_close(getattr(four, name), getattr(one, name), rtol=1e-5, atol=1e-6)


def test_accumulated_statistics_are_used_once():
    codebook = Codebook(2, 1, update=EMA(decay=DECAY))
    codebook.accumulate(torch.ones(4, 1), torch.zeros(4, dtype=torch.int64), everything(4))
    codebook.step()
    codebook.accumulate(torch.ones(1, 1), torch.ones(1, dtype=torch.int64), everything(1))
    codebook.step()
    expected = torch.tensor([DECAY * (1 - DECAY) * 4, 1 - DECAY])
    torch.testing.assert_close(codebook.cluster_size, expected)


def test_invalid_rows_count_for_nothing():
    torch.manual_seed(0)
    codebook, clean = Codebook(4, 3), Codebook(4, 3)
    clean.load_state_dict(codebook.state_dict())
    z, indices = batches(1, 10, 4, 3)[0]
    valid = everything(10)
    valid[[2, 7]] = False
    dirty = z.clone()
    dirty[2], dirty[7] = float("nan"), float("inf")
    codebook.accumulate(dirty, indices, valid)
    clean.accumulate(z[valid], indices[valid], everything(8))
    codebook.step()
    clean.step()
    for name in ("embeddings", "cluster_size", "embed_sum"):
        torch.testing.assert_close(getattr(codebook, name), getattr(clean, name))


@pytest.mark.parametrize("restart", [None, RESTART])
def test_an_update_with_no_valid_row_moves_no_code(restart):
    codebook = Codebook(4, 3, restart=restart)
    z, indices = batches(1, 40, 4, 3)[0]
    codebook.accumulate(z, indices, everything(40))
    codebook.step()
    before = codebook.embeddings.clone()
    nan, zero = torch.full((5, 3), float("nan")), torch.zeros(5, dtype=torch.int64)
    codebook.accumulate(nan, zero, ~everything(5))
    codebook.step()
    torch.testing.assert_close(codebook.embeddings, before)


def test_half_precision_vectors_are_summed_in_float32():
    codebook = Codebook(1, 1)
    z = torch.ones(3000, 1, dtype=torch.bfloat16)  # a bf16 sum would stop at 256
    codebook.accumulate(z, torch.zeros(3000, dtype=torch.int64), everything(3000))
    codebook.step()
    assert (
        codebook.cluster_size.dtype
        == codebook.embed_sum.dtype
        == codebook.embeddings.dtype
        == torch.float32
    )
    torch.testing.assert_close(codebook.embeddings, torch.ones(1, 1))
    torch.testing.assert_close(codebook.cluster_size, torch.tensor([30.0]))


# Initialization from data


def test_data_initialization_survives_the_first_update():
    torch.manual_seed(0)
    k, d, n = 8, 4, 400
    z = tight_clusters(k, d, n)
    codebook = Codebook(k, d, init="data")
    codebook.initialize(z)
    e = codebook.embeddings.clone()
    torch.testing.assert_close(codebook.embed_sum, codebook.cluster_size[:, None] * e)
    assert (codebook.cluster_size > 0).any() and e.isfinite().all()
    indices = torch.cdist(z.double(), e.double()).argmin(dim=1)
    codebook.accumulate(z, indices, everything(n))
    codebook.step()
    # Every code was the mean of its vectors, so it stays.
    torch.testing.assert_close(codebook.embeddings, e, rtol=1e-4, atol=1e-3)


def test_after_data_initialization_an_unused_code_does_not_shrink():
    torch.manual_seed(0)
    z = torch.randn(500, 4) + 5
    codebook = Codebook(16, 4, init="data")
    codebook.initialize(z)
    e = codebook.embeddings.clone()
    codebook.accumulate(z[:1], torch.zeros(1, dtype=torch.int64), everything(1))
    codebook.step()
    torch.testing.assert_close(codebook.embeddings[1:], e[1:], rtol=1e-5, atol=0)
    assert (codebook.embeddings[0] - e[0]).norm() < 0.2 * e[0].norm()


def test_data_initialization_follows_the_global_seed_and_covers_the_data():
    z = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        codebook = Codebook(64, 8, init="data")
        codebook.initialize(z)
        found.append(codebook.embeddings.clone())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    distances = torch.cdist(z.double(), found[0].double())
    # 64 random rows of an 8-dimensional normal leave ~0.55 of the variance, k-means ~0.42.
    assert distances.min(dim=1).values.square().mean() < 0.5 * 8
    assert len(distances.argmin(dim=1).unique()) > 56


@pytest.mark.parametrize("n", [1, 5, 16])
def test_data_initialization_with_fewer_vectors_than_codes(n):
    torch.manual_seed(0)
    z = torch.randn(n, 3)
    codebook = Codebook(16, 3, init="data")
    codebook.initialize(z)
    assert codebook.embeddings.isfinite().all() and codebook.cluster_size.isfinite().all()
    assert torch.cdist(z, codebook.embeddings).min(dim=1).values.max() < 1.5
    codebook.accumulate(z, torch.zeros(n, dtype=torch.int64), everything(n))
    codebook.step()
    assert codebook.embeddings.isfinite().all()


def test_data_initialization_leaves_out_bad_vectors():
    torch.manual_seed(0)
    z = torch.randn(100, 3)
    z[5], z[50, 1] = float("nan"), float("inf")
    codebook = Codebook(8, 3, init="data")
    codebook.initialize(z)
    assert codebook.embeddings.isfinite().all() and codebook.embeddings.abs().max() < 10


@pytest.mark.parametrize("scale", [1e-5, 1e4])
def test_data_initialization_at_other_scales_and_far_from_zero(scale):
    torch.manual_seed(0)
    z = tight_clusters(4, 3, 200) * scale
    codebook = Codebook(4, 3, init="data")
    codebook.initialize(z)
    spread = torch.cdist(z.double(), codebook.embeddings.double()).min(dim=1).values.max()
    assert spread < 150 * scale  # at worst two clusters share a code
    assert codebook.embeddings.isfinite().all()


# Restart of dead codes


def starving(restart: Restart | None = RESTART) -> Codebook:
    """A codebook of 8 after a step in which codes 0 and 1 took every vector."""
    torch.manual_seed(0)
    codebook = Codebook(8, 3, update=EMA(decay=DECAY), restart=restart)
    z, indices = batches(1, 64, 2, 3)[0]
    codebook.accumulate(z, indices, everything(64))
    codebook.step()
    return codebook


def rows_of(e: Tensor, z: Tensor) -> Tensor:
    """Which vectors of e are, to rounding, rows of z."""
    return torch.cdist(e.double(), z.double()).min(dim=1).values < 1e-5


def test_dead_codes_restart_at_vectors_and_living_codes_do_not():
    codebook, still = starving(), starving(restart=None)
    z = batches(1, 64, 2, 3)[0][0]
    torch.testing.assert_close(codebook.embeddings[:2], still.embeddings[:2])
    assert rows_of(codebook.embeddings[2:], z).all()
    assert not rows_of(still.embeddings[2:], z).any()
    torch.testing.assert_close(
        codebook.embed_sum[2:], codebook.cluster_size[2:, None] * codebook.embeddings[2:]
    )
    assert (codebook.cluster_size[2:] > 0).all()


def test_a_restarted_code_survives_its_next_update_unused():
    codebook = starving()
    e = codebook.embeddings.clone()
    z, indices = batches(1, 64, 2, 3, seed=5)[0]
    codebook.accumulate(z, indices, everything(64))
    codebook.step()
    torch.testing.assert_close(codebook.embeddings[2:], e[2:], rtol=1e-5, atol=1e-6)


def test_a_code_that_stays_unused_is_restarted_again():
    codebook = starving()
    e = codebook.embeddings.clone()
    for seed in range(1, 60):
        z, indices = batches(1, 64, 2, 3, seed=seed)[0]
        codebook.accumulate(z, indices, everything(64))
        codebook.step()
    assert ((codebook.embeddings[2:] - e[2:]).norm(dim=1) > 1e-3).all()


def test_restarts_take_only_valid_vectors_of_any_micro_batch():
    torch.manual_seed(0)
    codebook = Codebook(25, 3, restart=RESTART)
    zero = torch.zeros(20, dtype=torch.int64)
    first, second = torch.randn(20, 3), torch.randn(20, 3) + 50
    valid = everything(20)
    valid[::2] = False
    first[::4] = float("nan")
    codebook.accumulate(first, zero, valid)
    codebook.accumulate(second, zero, everything(20))
    codebook.step()
    assert codebook.embeddings.isfinite().all()
    restarted = codebook.embeddings[1:]
    assert rows_of(restarted, torch.cat([first[valid], second])).all()
    assert rows_of(restarted, first[valid]).any() and rows_of(restarted, second).any()


def test_more_dead_codes_than_vectors():
    torch.manual_seed(0)
    codebook = Codebook(64, 3, restart=RESTART)
    before = codebook.embeddings.clone()
    z = torch.randn(4, 3)
    codebook.accumulate(z, torch.zeros(4, dtype=torch.int64), everything(4))
    codebook.step()
    moved = (codebook.embeddings[1:] != before[1:]).any(dim=1)
    assert rows_of(codebook.embeddings[1:][moved], z).all()
    assert len(codebook.embeddings[1:][moved].unique(dim=0)) == 4


def test_restarts_forget_the_vectors_of_earlier_updates():
    torch.manual_seed(0)
    codebook = Codebook(64, 3, restart=RESTART)
    zero = torch.zeros(4, dtype=torch.int64)
    for offset in (0, 50):
        before = codebook.embeddings.clone()
        z = torch.randn(4, 3) + offset
        codebook.accumulate(z, zero, everything(4))
        codebook.step()
    moved = (codebook.embeddings[1:] - before[1:]).norm(dim=1) > 1e-3
    assert moved.any() and rows_of(codebook.embeddings[1:][moved], z).all()


@pytest.mark.parametrize("parts", [1, 4])
def test_restarts_draw_every_vector_with_the_same_chance(parts):
    """One restart out of vectors at distances 0, 1 and 3: the first is a code already."""
    torch.manual_seed(0)
    z = torch.tensor([[0.0], [1.0], [3.0], [50.0]])
    valid = torch.tensor([True, True, True, False])
    zero = torch.zeros(4, dtype=torch.int64)
    found = []
    for _ in range(400):
        codebook = Codebook(2, 1, restart=RESTART)
        codebook.embeddings.zero_()
        for rows in torch.arange(4).split(4 // parts):
            codebook.accumulate(z[rows], zero[rows], valid[rows])
        codebook.step()
        found.append(codebook.embeddings[1].item())
    assert set(found) == {1.0, 3.0}
    assert 0.4 < found.count(3.0) / len(found) < 0.6


# Learned by gradient, and saved


def test_a_gradient_learned_codebook_is_a_parameter_and_update_leaves_it_alone():
    torch.manual_seed(0)
    codebook = Codebook(5, 3, update=GradientLearned())
    assert (
        isinstance(codebook.embeddings, nn.Parameter) and codebook.embeddings.dtype == torch.float32
    )
    before = codebook.embeddings.detach().clone()
    z, indices = batches(1, 20, 5, 3)[0]
    codebook.accumulate(z, indices, everything(20))
    codebook.step()
    assert torch.equal(codebook.embeddings, before)


def test_a_gradient_learned_codebook_restarts_dead_codes_too():
    torch.manual_seed(0)
    codebook = Codebook(8, 3, update=GradientLearned(), restart=RESTART)
    z = torch.randn(32, 3)
    for _ in range(500):  # however it counts use, 500 steps are enough to tell
        codebook.accumulate(z, torch.zeros(32, dtype=torch.int64), everything(32))
        codebook.step()
    assert isinstance(codebook.embeddings, nn.Parameter)
    assert rows_of(codebook.embeddings.detach()[1:], z).all()


@pytest.mark.parametrize("update", [EMA(decay=DECAY), GradientLearned()])
def test_a_saved_codebook_trains_on_like_the_original(update):
    torch.manual_seed(0)
    codebook = Codebook(6, 3, update=update, init="data", restart=RESTART)
    codebook.initialize(torch.randn(50, 3))
    codebook.accumulate(*batches(1, 40, 3, 3)[0], everything(40))
    codebook.step()
    copy = Codebook(6, 3, update=update, init="data", restart=RESTART)
    copy.load_state_dict(codebook.state_dict())
    for each in (codebook, copy):
        torch.manual_seed(1)
        each.accumulate(*batches(1, 40, 3, 3, seed=2)[0], everything(40))
        each.step()
    for name, value in codebook.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name


def test_a_weight_scales_the_step_of_each_code():
    torch.manual_seed(0)
    codebook, plain = (Codebook(4, 3, EMA(0.9)) for _ in range(2))
    codes, z = torch.randn(4, 3), torch.randn(40, 3)
    indices, valid = torch.arange(40) % 4, torch.ones(40, dtype=torch.bool)
    weight = torch.tensor([0.0, 0.5, 1.0, 2.0])
    for each in (codebook, plain):
        each.set_codes(codes, weight=5.0)
        each.accumulate(z, indices, valid)
    codebook.step(weight)
    plain.step()
    means = z.view(10, 4, 3).mean(0)
    rate = 0.1 * weight[:, None]
    expected = ((1 - rate) * 5 * codes + rate * 10 * means) / ((1 - rate) * 5 + rate * 10)
    torch.testing.assert_close(codebook.embeddings, expected)
    torch.testing.assert_close(codebook.embeddings[2], plain.embeddings[2])
