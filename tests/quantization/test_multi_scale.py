"""Multi-scale quantizers against VAR's algorithm with torch's own resizing."""

import copy

import pytest
import torch
import torch.nn.functional as F
from every_quantizer import assert_same_state, state
from several_quantizers import normal

from rotvq.errors import UserError
from rotvq.quantization import (
    EMA,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    MultiScaleQuantizer,
    Restart,
    VectorQuantizer,
    nearest,
)
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.scales import gathered
from rotvq.scales import cells

SCALES, D = (1, 2, 6), 6


def quantizer(dropout=0.0, **more):
    torch.manual_seed(0)
    one = VectorQuantizer(40, D, channel_dim=1, **{"update": EMA(0.5), **more})
    found = MultiScaleQuantizer(one, SCALES, dropout)
    with torch.no_grad():
        for level, codebook in enumerate(found.codebooks):
            codebook.set_codes(normal(*codebook.embeddings.shape, seed=level))
    return found


def as_blocks(small, g):
    """(b, d, r·g, c·g) as (b, g·g·d, r, c), past the edge with the outermost cell."""
    down, right = -small.shape[2] % g, -small.shape[3] % g
    small = F.pad(small, (0, right, 0, down), mode="replicate")
    parts = [small[:, :, i::g, j::g] for i in range(g) for j in range(g)]
    return torch.cat(parts, 1)


def algorithm(whole, z):
    """Algorithm 1 of VAR over blocks: the sum, and vectors and tokens of each scale."""
    total, vectors, tokens, last = torch.zeros_like(z), [], [], SCALES[-1]
    for level, scale in enumerate(SCALES):
        finer = SCALES[min(level + 1, len(SCALES) - 1)]
        g = finer // scale
        size = [cells(side, finer, last) for side in z.shape[2:]]
        blocks = as_blocks(F.interpolate(z - total, size=size, mode="area"), g)
        vectors.append(blocks.movedim(1, -1).flatten(0, 2))
        e = whole.codebooks[level].embeddings
        tokens.append(nearest(vectors[-1], e).view(len(z), *blocks.shape[2:]))
        small = z.new_empty(len(z), D, *(g * side for side in blocks.shape[2:]))
        for part in range(g * g):
            i, j = divmod(part, g)
            small[:, :, i::g, j::g] = e[tokens[-1]][..., part * D : (part + 1) * D].movedim(-1, 1)
        small = small[:, :, : size[0], : size[1]]
        total = total + F.interpolate(small, size=z.shape[2:], mode="bicubic")
    return total, vectors, tokens


@pytest.mark.parametrize("grid", [(6, 6), (9, 12), (1, 4)])
@torch.no_grad()
def test_the_algorithm(grid):
    whole, z = quantizer().eval(), normal(3, D, *grid)
    out, (total, vectors, tokens) = whole(z), algorithm(whole, z)
    torch.testing.assert_close(out.z_q, total)
    torch.testing.assert_close(out.commitment_loss, (z - total).square().mean())
    losses = []
    for level, expected in enumerate(tokens):
        assert torch.equal(whole.tokens(out.indices, level), expected)
        assert (out.indices[..., level] >= 0).sum() == expected.numel()
        codes = whole.codebooks[level].embeddings[expected.flatten()]
        losses.append((vectors[level] - codes).square().mean())
    torch.testing.assert_close(out.codebook_loss, torch.stack(losses).mean())
    assert torch.equal(whole.encode(z), out.indices)
    assert torch.equal(whole.lookup(out.indices), out.z_q), "to the same bits"


@torch.no_grad()
def test_the_first_scales_decode_alone():
    whole, z = quantizer().eval(), normal(2, D, 6, 12)
    indices = whole.encode(z)
    for levels in (1, 2, 3):
        others = indices.clone()
        others[..., levels:] = -1
        assert torch.equal(whole.lookup(indices[..., :levels]), whole.lookup(others))


@pytest.mark.parametrize("estimator", ["straight_through", "rotation", "lifted_rotation"])
def test_the_gradient_is_that_of_one_quantizer(estimator):
    whole = quantizer(estimator=estimator).eval()
    z, g = normal(2, D, 6, 6).requires_grad_(), normal(2, D, 6, 6, seed=9)
    out = whole(z)
    (found,) = torch.autograd.grad(out.z_q, z, g)
    rows, codes, slopes = (t.movedim(1, -1) for t in (z, out.z_q.detach(), g))
    (expected,) = torch.autograd.grad(ESTIMATORS[estimator](rows, codes), z, slopes)
    torch.testing.assert_close(found, expected)


def test_every_scale_learns_codes_of_its_own():
    whole = quantizer(update=GradientLearned())
    whole(normal(4, D, 6, 6)).loss().backward()
    assert len(whole.codebooks) == 3
    assert all(codebook.embeddings.grad.abs().sum() > 0 for codebook in whole.codebooks)


def test_one_step_moves_each_codebook_by_the_vectors_of_its_scale():
    whole, z = quantizer(), normal(8, D, 6, 6)
    before = copy.deepcopy(whole)
    with torch.no_grad():
        _, vectors, tokens = algorithm(before, z)
        whole(z)
    for level, alone in enumerate(before.codebooks):
        every = torch.ones(len(vectors[level]), dtype=torch.bool)
        alone.accumulate(vectors[level], tokens[level].flatten(), every)
        alone.step()
        for name in ("embeddings", "cluster_size", "embed_sum", "idle"):
            torch.testing.assert_close(
                getattr(whole.codebooks[level], name), getattr(alone, name), rtol=1e-4, atol=1e-5
            )


def test_codes_start_from_the_vectors_of_their_scale_and_dead_ones_restart():
    options = {"init": "data", "restart": Restart(0.1), "update": EMA(0.5)}
    one = VectorQuantizer(20, D, channel_dim=1, **options)
    whole, z = MultiScaleQuantizer(one, SCALES), 3 + normal(64, D, 6, 6)
    again = copy.deepcopy(whole)
    again.initialize_codebook(z)
    for found in (whole(z), again.eval()(z)):
        assert found.commitment_loss < 1
    assert all(codebook.ready for codebook in (*whole.codebooks, *again.codebooks))
    for codebook in whole.codebooks:
        with torch.no_grad():
            codebook.embeddings[:5] = 1e3
    for _ in range(20):
        whole(z)
    assert all(codebook.embeddings.abs().max() < 100 for codebook in whole.codebooks)


def test_dropout_leaves_out_the_last_scales_of_some_images():
    whole, z = quantizer(dropout=1.0), normal(300, D, 6, 6)
    alone = copy.deepcopy(whole).eval()
    out = whole(z)
    numbers = (gathered(out.indices[:, 0, 0], 1, 1) >= 0).sum(-1)
    found = numbers.bincount(minlength=4)[1:] / 300
    assert (found - 1 / 3).abs().max() < 0.1
    assert torch.equal(alone.lookup(out.indices), out.z_q), "−1 adds nothing"
    expected = alone.encode(z)
    for level in range(3):
        own = numbers > level
        assert torch.equal(out.indices[own][..., level], expected[own][..., level])
        assert (out.indices[~own][..., level] == -1).all()
    complete = numbers == 3
    expected = (z - out.z_q)[complete].square().mean()
    torch.testing.assert_close(out.commitment_loss, expected)
    assert torch.equal(whole.eval().encode(z), whole(z).indices)


def test_images_with_fewer_scales_do_not_teach_the_encoder():
    whole, z = quantizer(dropout=1.0), normal(30, D, 6, 6).requires_grad_()
    out = whole(z)
    (out.z_q.sum() + out.commitment_loss).backward()
    complete = (out.indices[:, 0, 0] >= 0).all(-1)
    assert 0 < complete.sum() < 30
    assert torch.equal(z.grad.flatten(1).any(1), complete)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_is_one_graph():
    eager, z = quantizer(), normal(4, D, 6, 6)
    whole = copy.deepcopy(eager)
    found = torch.compile(whole, fullgraph=True, backend="aot_eager")(z)
    assert torch.equal(found.indices, eager(z).indices)
    for codebook, expected in zip(whole.codebooks, eager.codebooks, strict=True):
        torch.testing.assert_close(codebook.embeddings, expected.embeddings)


def test_autocast_changes_no_index():
    whole, z = quantizer().eval(), normal(4, D, 6, 6)
    expected = whole(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(whole(z).indices, expected.indices)
        assert torch.equal(whole.encode(z), expected.indices)


def test_what_does_not_fit_is_refused():
    one = VectorQuantizer(8, D, channel_dim=1)
    for scales in ((), (2, 1), (1, 1), (0, 1), (1, 2.5), (1, 10**4), (1, 2, 3)):
        with pytest.raises(UserError, match="scales: expected increasing integers"):
            MultiScaleQuantizer(one, scales)
    for other in (VectorQuantizer(8, D), FiniteScalarQuantizer([3] * D, channel_dim=1)):
        with pytest.raises(UserError, match="expected a VectorQuantizer with channel_dim=1"):
            MultiScaleQuantizer(other, SCALES)
    with pytest.raises(UserError, match="metric: expected euclidean"):
        MultiScaleQuantizer(VectorQuantizer(8, D, channel_dim=1, metric="cosine"), SCALES)
    with pytest.raises(UserError, match="got the reflection"):
        quantizer(estimator="reflection")
    with pytest.raises(UserError, match="got a list with channel_dim=None"):
        MultiScaleQuantizer([VectorQuantizer(8, 4, channel_dim=1)], (1, 2))
    with pytest.raises(UserError, match=r"dropout: expected 0 to 1; got 1\.5"):
        quantizer(dropout=1.5)
    whole = quantizer()
    with pytest.raises(UserError, match=r"expected maps \(batch, 6, rows, columns\)"):
        whole(normal(4, D, 4))
    with pytest.raises(UserError, match="expected 6 channels"):
        whole(normal(4, 5, 4, 4))
    with pytest.raises(UserError, match="mask: expected None"):
        whole(normal(4, D, 6, 6), torch.ones(4, 4, 4, dtype=torch.bool))
    with pytest.raises(UserError, match="with 1 to 3 scales; got"):
        whole.lookup(torch.zeros(2, 4, 4, 4, dtype=torch.int64))
    with pytest.raises(UserError, match="whose maps overlap"):
        _ = whole.tables
    with pytest.raises(UserError, match="got a MultiScaleQuantizer"):
        GroupedQuantizer([whole, whole])


@pytest.mark.parametrize("update", [EMA(0.9), GradientLearned()])
def test_the_entropy_loss_moves_the_encoder(update):
    z = normal(3, D, 12, 6).requires_grad_()
    out = quantizer(update=update, entropy_loss=True)(z)
    (gradient,) = torch.autograd.grad(out.entropy_loss, z)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_nan_in_one_image_harms_no_other_and_no_code():
    whole, z = quantizer(), normal(4, D, 6, 6)
    expected = whole.encode(z)
    z[3, :, 1, 1] = torch.nan
    out = whole(z)
    assert torch.equal(out.indices[:3], expected[:3])
    assert all(t.isfinite().all() for t in state(whole).values())


def test_evaluation_changes_nothing_and_batches_do_not_matter():
    whole, z = quantizer().eval(), normal(6, D, 6, 6)
    before = state(whole)
    found = whole(z).indices
    assert torch.equal(torch.cat([whole.encode(x) for x in z.split(1)]), found)
    assert_same_state(whole, before, rtol=0, atol=0)
