"""The drop-in replacement: against its formulas, and against the peer where that is installed."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F

from rotvq.compat import ResidualVQ, VectorQuantize
from rotvq.errors import UserError
from rotvq.quantization import EMA, GradientLearned, Restart, VectorQuantizer


@pytest.fixture
def peer(library):
    return library.VectorQuantize


def pair(peer, **arguments):
    """The peer's layer and ours with the same codes and projections."""
    torch.manual_seed(0)
    theirs = peer(dim=8, codebook_size=16, **arguments)
    ours = VectorQuantize(dim=8, codebook_size=16, **arguments)
    with torch.no_grad():
        embed = theirs._codebook.embed.normal_()
        if arguments.get("use_cosine_sim"):
            embed.copy_(F.normalize(embed, dim=-1))
        theirs._codebook.embed_avg.copy_(embed)
        theirs._codebook.cluster_size.fill_(1.0)
        ours.codebook = theirs.codebook
    for name in ("project_in", "project_out"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    return theirs, ours


def defaults(function):
    parameters = list(inspect.signature(function).parameters.values())[2:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}


ARGUMENTS = {
    "codebook_dim": None, "heads": 1, "separate_codebook_per_head": False, "decay": 0.8,
    "eps": 1e-5, "freeze_codebook": False, "kmeans_init": False, "kmeans_iters": 10,
    "sync_kmeans": True, "use_cosine_sim": False, "layernorm_after_project_in": False,
    "threshold_ema_dead_code": 0, "channel_last": True, "accept_image_fmap": False,
    "accept_3d_fmap": False, "commitment_weight": 1.0, "commitment_use_cross_entropy_loss": False,
    "orthogonal_reg_weight": 0.0, "orthogonal_reg_active_codes_only": False,
    "orthogonal_reg_max_codes": None, "codebook_diversity_loss_weight": 0.0,
    "codebook_diversity_temperature": 100.0, "stochastic_sample_codes": False,
    "sample_codebook_temp": 1.0, "straight_through": False, "rotation_trick": None,
    "directional_reparam": False, "directional_reparam_variance": 0.005, "sync_codebook": None,
    "sync_affine_param": False, "ema_update": None, "vq_bridge": None, "manual_ema_update": False,
    "learnable_codebook": None, "in_place_codebook_optimizer": None,
    "manual_in_place_optimizer_update": False, "affine_param": False,
    "affine_param_batch_decay": 0.99, "affine_param_codebook_decay": 0.9, "sync_update_v": 0.0,
    "return_zeros_for_masked_padding": True, "route_gradients_to_input": True,
}  # fmt: skip
"""Arguments of the peer's constructor with their defaults, version 1.32."""

CALL_ARGUMENTS = {
    "indices": None, "mask": None, "lens": None, "topk": None, "sample_codebook_temp": None,
    "freeze_codebook": None, "return_loss_breakdown": False, "codebook_transform_fn": None,
    "ema_update_weight": None, "accum_ema_update": False, "ema_update": None,
}  # fmt: skip


# Arguments


def test_a_change_of_import_is_enough():
    torch.manual_seed(0)
    vq = VectorQuantize(dim=16, codebook_size=32, decay=0.8, commitment_weight=0.5)
    torch.manual_seed(0)
    own = VectorQuantizer(32, 16, update=EMA(0.8))
    x = torch.randn(2, 50, 16, requires_grad=True)
    quantized, indices, loss = vq(x)
    out = own(x)
    assert torch.equal(quantized, out.z_q) and torch.equal(indices, out.indices)
    assert torch.equal(loss, 0.5 * out.commitment_loss)
    assert torch.equal(vq.codebook, own.codebook.embeddings) and vq.codebook_size == 32
    (quantized.sum() + loss).backward()
    assert x.grad.isfinite().all()


def test_every_argument_of_the_peer_is_accepted_at_its_default():
    VectorQuantize(8, 16, **ARGUMENTS)
    VectorQuantize(8, 16)(torch.randn(3, 8), **CALL_ARGUMENTS)
    for name, value in ARGUMENTS.items():
        VectorQuantize(8, 16, **{name: value})
    for name, value in CALL_ARGUMENTS.items():
        VectorQuantize(8, 16)(torch.randn(3, 8), **{name: value})


def test_the_peer_has_the_listed_arguments(peer):
    assert defaults(peer.__init__) == ARGUMENTS
    assert defaults(peer.forward) == CALL_ARGUMENTS


def test_arguments_are_translated():
    vq = VectorQuantize(8, 16, kmeans_init=True, threshold_ema_dead_code=2, rotation_trick=False)
    assert vq.quantizer.estimator.__name__ == "straight_through"
    assert vq.quantizer.codebook.restart == Restart()
    assert not vq.quantizer.codebook.initialized
    assert VectorQuantize(8, 16).quantizer.estimator.__name__ == "rotation"
    assert VectorQuantize(1, 16).quantizer.estimator.__name__ == "straight_through"
    learned = VectorQuantize(8, 16, learnable_codebook=True, ema_update=False)
    assert isinstance(learned.quantizer.codebook.update, GradientLearned)
    learned = VectorQuantize(8, 16, orthogonal_reg_weight=1.0, ema_update=False)
    assert isinstance(learned.quantizer.codebook.update, GradientLearned)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"straight_through": True}, "straight_through samples codes by Gumbel-softmax"),
        ({"directional_reparam": True}, "directional_reparam: expected False; got True"),
        ({"vq_bridge": torch.nn.Identity()}, "vq_bridge: expected None; got Identity"),
        ({"ema_update": False}, "ema_update: expected True with learnable_codebook=False"),
        ({"learnable_codebook": True, "ema_update": True}, "ema_update: expected False"),
        ({"no_such": 1}, r"no_such: expected an argument of VectorQuantize; got an unknown one"),
    ],
)
def test_arguments_that_are_not_supported(asked, message):
    with pytest.raises(UserError, match=message):
        VectorQuantize(8, 16, **asked)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"topk": 2}, "topk: expected None; got 2"),
        ({"sample_codebook_temp": torch.ones(1)}, "sample_codebook_temp: expected None; got a Te"),
        ({"no_such": 1}, "no_such: expected an argument of VectorQuantize.forward; got an unkno"),
        ({"lens": torch.ones(3), "mask": torch.ones(3)}, "lens: expected either lens or mask"),
    ],
)
def test_keywords_of_a_call_that_are_not_supported(asked, message):
    with pytest.raises(UserError, match=message):
        VectorQuantize(8, 16)(torch.randn(3, 8), **asked)


# Results by their formulas


def formulas(vq, x, g, weight, learned):
    """Output, indices, loss, and the gradients of loss + g·output, with matrices in float64."""
    e, x, g = (t.detach().double().flatten(0, -2) for t in (vq.codebook, x, g))
    into, out_of = (
        (layer.weight.detach().double(), layer.bias.detach().double())
        if isinstance(layer, torch.nn.Linear)
        else (torch.eye(8).double(), torch.zeros(8).double())
        for layer in (vq.project_in, vq.project_out)
    )
    z = x @ into[0].T + into[1]
    indices = (z[:, None] - e).square().sum(-1).argmin(1)
    q = e[indices]
    of_z, of_codes = 2 * weight * (z - q) / z.numel(), torch.zeros_like(e)
    if learned:
        of_codes.index_add_(0, indices, -of_z)
    for i, each in enumerate(g @ out_of[0]):
        a, b = z[i] / z[i].norm(), q[i] / q[i].norm()
        r = (a + b) / (a + b).norm()
        rotation = torch.eye(len(a)).double() - 2 * r.outer(r) + 2 * b.outer(a)
        of_z[i] += q[i].norm() / z[i].norm() * rotation.T @ each
    loss = weight * (z - q).square().mean()
    return q @ out_of[0].T + out_of[1], indices, loss, of_z @ into[0], of_codes


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("codebook_dim", [None, 4])
@pytest.mark.parametrize("frozen", [False, True])
def test_values_losses_and_gradients_equal_their_formulas(learned, codebook_dim, frozen):
    torch.manual_seed(0)
    vq = VectorQuantize(8, 16, codebook_dim, commitment_weight=0.3, learnable_codebook=learned)
    torch.nn.init.normal_(vq.codebook)
    x, g = torch.randn(2, 2, 30, 8)
    before = vq.codebook.detach().clone()
    expected = formulas(vq, x, g, 0.3, learned and not frozen)
    x.requires_grad_()
    quantized, indices, loss = vq(x, freeze_codebook=frozen)
    (loss + (quantized * g).sum()).backward()
    moved = torch.zeros(16, codebook_dim or 8) if vq.codebook.grad is None else vq.codebook.grad
    for found, wanted in zip((quantized, indices, loss, x.grad, moved), expected, strict=True):
        torch.testing.assert_close(
            found.double(), wanted.view_as(found).double(), rtol=1e-4, atol=1e-5
        )
    assert torch.equal(vq.codebook, before) == (frozen or learned)


@pytest.mark.parametrize("codebook_dim", [None, 4])
@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("keyword", ["mask", "lens"])
def test_masked_tokens_give_no_index_and_zeros_or_the_input(codebook_dim, zeros, keyword):
    vq = VectorQuantize(8, 16, codebook_dim, return_zeros_for_masked_padding=zeros).eval()
    x, lens = torch.randn(3, 6, 8), torch.tensor([6, 2, 0])
    mask = torch.arange(6) < lens.unsqueeze(1)
    quantized, indices, _ = vq(x, **{keyword: mask if keyword == "mask" else lens})
    without, all_indices, _ = vq(x)
    assert torch.equal(quantized[mask], without[mask])
    assert torch.equal(quantized[~mask], torch.zeros(10, 8) if zeros else x[~mask])
    assert torch.equal(indices, all_indices.where(mask, -1))
    assert not vq.get_output_from_indices(indices)[~mask].any()


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ({"channel_last": False}, (2, 8, 6)),
        ({"accept_image_fmap": True}, (2, 8, 4, 5)),
        ({"accept_3d_fmap": True}, (2, 8, 3, 4, 5)),
    ],
)
@pytest.mark.parametrize("codebook_dim", [None, 3])
def test_channels_first_equals_channels_last_transposed(layout, shape, codebook_dim):
    first, last = VectorQuantize(8, 16, codebook_dim, **layout), VectorQuantize(8, 16, codebook_dim)
    last.load_state_dict(first.state_dict())
    first.eval(), last.eval()
    x = torch.randn(shape)
    (quantized, indices, _), (expected, same, _) = first(x), last(x.movedim(1, -1))
    assert torch.equal(quantized, expected.movedim(-1, 1)) and torch.equal(indices, same)
    codes = first.get_codes_from_indices(indices)
    assert torch.equal(codes, last.get_codes_from_indices(indices).movedim(-1, 1))


# The peer's results


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("codebook_dim", [None, 4])
@pytest.mark.parametrize("frozen", [False, True])
def test_values_losses_and_gradients_equal_the_peers(peer, learned, codebook_dim, frozen):
    theirs, ours = pair(
        peer,
        codebook_dim=codebook_dim,
        commitment_weight=0.3,
        learnable_codebook=learned,
        ema_update=not learned,
    )
    results, g = [], torch.randn(2, 30, 8)
    x = torch.randn(2, 30, 8)
    for vq, codes in ((theirs, theirs._codebook.embed), (ours, ours.codebook)):
        leaf = x.clone().requires_grad_()
        before = codes.detach().clone()
        quantized, indices, loss = vq(leaf, freeze_codebook=frozen)
        (loss + (quantized * g).sum()).backward()
        moved = codes.grad if codes.grad is not None else torch.zeros_like(codes)
        if frozen:
            assert torch.equal(codes, before) and not moved.any()
        results.append((quantized, indices, loss, leaf.grad, moved.view(16, -1)))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-5)
    assert ours.training and ours.quantizer.training


@pytest.mark.parametrize("codebook_dim", [None, 4])
@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("keyword", ["mask", "lens"])
def test_masks_equal_the_peers(peer, codebook_dim, zeros, keyword):
    theirs, ours = pair(peer, codebook_dim=codebook_dim, return_zeros_for_masked_padding=zeros)
    x, lens = torch.randn(3, 6, 8), torch.tensor([6, 2, 0])
    mask = torch.arange(6) < lens.unsqueeze(1)
    how = {"mask": mask} if keyword == "mask" else {"lens": lens}
    theirs.eval(), ours.eval()
    quantized, indices, _ = ours(x, **how)
    expected, their_indices, _ = theirs(x, **how)
    torch.testing.assert_close(quantized, expected)
    assert torch.equal(indices, their_indices) and (indices[~mask] == -1).all()
    back = ours.get_output_from_indices(indices)
    torch.testing.assert_close(back[mask], quantized[mask])
    assert not back[~mask].any()


@pytest.mark.parametrize(
    "arguments, shape",
    [
        ({}, (2, 6, 8)),
        ({}, (5, 8)),
        ({"channel_last": False}, (2, 8, 6)),
        ({"accept_image_fmap": True}, (2, 8, 4, 5)),
        ({"accept_3d_fmap": True}, (2, 8, 3, 4, 5)),
        ({"codebook_dim": 3}, (2, 6, 8)),
        ({"codebook_dim": 3, "accept_image_fmap": True}, (2, 8, 4, 5)),
    ],
)
def test_layouts_equal_the_peers(peer, arguments, shape):
    theirs, ours = pair(peer, **arguments)
    theirs.eval(), ours.eval()
    quantized, indices, loss = ours(torch.randn(shape))
    assert loss == 0 and loss.shape == ()
    codes = ours.get_codes_from_indices(indices)
    torch.testing.assert_close(codes, theirs.get_codes_from_indices(indices))
    back = ours.get_output_from_indices(indices)
    if "codebook_dim" not in arguments or "accept_image_fmap" not in arguments:
        torch.testing.assert_close(back, theirs.get_output_from_indices(indices))
    else:  # the peer fails here
        back = back.movedim(-1, 1)
    torch.testing.assert_close(back, quantized)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("codebook_dim", [None, 4])
def test_half_precision(dtype, codebook_dim):
    vq = VectorQuantize(8, 16, codebook_dim).to(dtype)
    x = torch.randn(2, 10, 8, dtype=dtype, requires_grad=True)
    quantized, _, loss = vq(x)
    (quantized.float().sum() + loss).backward()
    assert x.grad.isfinite().all() and quantized.dtype == dtype
    vq.eval()
    quantized, indices, _ = vq(x)
    assert torch.equal(vq.get_output_from_indices(indices), quantized)
    assert vq.get_codes_from_indices(indices).dtype == dtype


def test_a_frozen_codebook_is_placed_by_the_first_batch_and_stays():
    vq = VectorQuantize(8, 16, kmeans_init=True, freeze_codebook=True)
    x = 50 + torch.randn(100, 8)
    vq(x)
    placed = vq.codebook.clone()
    assert (placed.mean(0) - 50).abs().max() < 1
    vq(x + 1)
    assert torch.equal(vq.codebook, placed)
    vq(x + 1, freeze_codebook=False)
    assert not torch.equal(vq.codebook, placed)


def test_processes_exchange_nothing_if_each_keeps_its_own_codebook(monkeypatch):
    def refuse(*args, **keywords):
        raise ConnectionError("exchanged")

    dist = "rotvq.quantization.processes.dist"
    monkeypatch.setattr(f"{dist}.is_initialized", lambda: True)
    monkeypatch.setattr(f"{dist}.get_world_size", lambda: 2)
    for name in ("all_reduce", "all_gather", "broadcast"):
        monkeypatch.setattr(f"{dist}.{name}", refuse)
    x = torch.randn(100, 8)
    own = VectorQuantize(8, 16, sync_codebook=False, kmeans_init=True, threshold_ema_dead_code=1)
    before = own.codebook.clone()
    own(x)
    assert not torch.equal(own.codebook, before)
    for shared in (None, True):
        with pytest.raises(ConnectionError, match="exchanged"):
            VectorQuantize(8, 16, sync_codebook=shared)(x)


HEADS = [{"heads": 2}, {"heads": 2, "separate_codebook_per_head": True}]


@pytest.mark.parametrize("heads", [{}, *HEADS])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("layout", [{}, {"accept_image_fmap": True}])
def test_heads_and_cosines_equal_the_peers(peer, heads, cosine, layout):
    theirs, ours = pair(
        peer, codebook_dim=4 if heads else 8, use_cosine_sim=cosine, **heads, **layout
    )
    shape = (2, 8, 3, 5) if layout else (2, 15, 8)
    x, g = torch.randn(shape), torch.randn(shape)
    results = []
    for vq in (theirs, ours):
        leaf = x.clone().requires_grad_()
        quantized, indices, loss, parts = vq(leaf, return_loss_breakdown=True)
        (loss + (quantized * g).sum()).backward()
        results.append((quantized, indices, loss, parts.commitment, leaf.grad, vq.codebook))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-4)
    ours.eval()
    quantized, indices, _ = ours(x)
    back = ours.get_output_from_indices(indices)
    torch.testing.assert_close(back, quantized)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("cosine", [False, True])
def test_masked_tokens_of_several_heads_have_no_effect(heads, cosine):
    torch.manual_seed(0)
    vq = VectorQuantize(8, 16, 3, use_cosine_sim=cosine, freeze_codebook=True, **heads)
    x, lens = torch.randn(3, 6, 8), torch.tensor([6, 2, 0])
    mask = torch.arange(6) < lens.unsqueeze(1)
    quantized, indices, loss = vq(x, lens=lens)
    packed, packed_indices, packed_loss = vq(x[mask].unsqueeze(0))
    torch.testing.assert_close(quantized[mask], packed[0])
    assert torch.equal(indices[mask], packed_indices[0]) and (indices[~mask] == -1).all()
    torch.testing.assert_close(loss, packed_loss)
    assert not quantized[~mask].any() and not vq.get_output_from_indices(indices)[~mask].any()


def test_no_call_moves_codes_with_a_decay_of_1():
    vq = VectorQuantize(dim=8, codebook_size=16, decay=1.0)
    residual = ResidualVQ(dim=8, num_quantizers=2, codebook_size=16, decay=1.0)
    before = vq.codebook.clone(), residual.codebooks.clone()
    for layer in (vq, residual):
        layer(torch.randn(2, 10, 8), freeze_codebook=False)
    assert torch.equal(vq.codebook, before[0]) and torch.equal(residual.codebooks, before[1])


def test_a_decay_of_1_leaves_the_codes():
    vq = VectorQuantize(8, 16, decay=1.0)
    before = vq.codebook.clone()
    vq(torch.randn(50, 8))
    assert torch.equal(vq.codebook, before)


@pytest.mark.parametrize("heads", [{}, *HEADS])
def test_a_weight_scales_the_step_of_each_code_as_in_the_peer(peer, heads):
    theirs, ours = pair(peer, codebook_dim=4 if heads else 8, **heads)
    books = 2 if "separate_codebook_per_head" in heads else 1
    weight = torch.rand(books, 16)
    for vq in (theirs, ours):
        torch.manual_seed(1)
        vq(torch.randn(2, 30, 8), ema_update_weight=weight)
    # Unlike there, no epsilon shifts the counts.
    torch.testing.assert_close(ours.codebook, theirs.codebook, rtol=1e-3, atol=1e-3)
    assert not ours.quantizer.defer_update


def test_a_weight_may_be_a_function_of_sums_and_counts():
    vq = VectorQuantize(8, 16)
    before = vq.codebook.clone()
    shapes = []

    def weight(sums, counts):
        shapes.append((sums.shape, counts.shape))
        return (counts > 1e9).float()

    for _ in range(120):  # longer than a missing update is tolerated
        vq(torch.randn(50, 8), ema_update_weight=weight)
    torch.testing.assert_close(vq.codebook, before, rtol=0, atol=1e-4)
    assert shapes == [((1, 16, 8), (1, 16))] * 120


def test_a_pass_without_an_update():
    vq = VectorQuantize(8, 16)
    before = vq.codebook.clone()
    vq(torch.randn(50, 8), ema_update=False)
    assert torch.equal(vq.codebook, before)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        # A mask in the place of the indices.
        (torch.ones(2, 10, dtype=torch.bool), r"indices: expected int64; got torch.bool"),
        (torch.zeros(2, 9, dtype=torch.int64), r"expected shape \(2, 10\).*got \(2, 9\)"),
        (torch.full((2, 10), 16), r"expected values from 0 to 15.*got 16 to 16"),
    ],
)
def test_targets_that_do_not_fit_leave_the_codebook_as_it_was(indices, message):
    vq = VectorQuantize(8, 16)
    before = vq.codebook.clone()
    with pytest.raises(UserError, match=message):
        vq(torch.randn(2, 10, 8), indices)
    assert torch.equal(vq.codebook, before)


@pytest.mark.parametrize("heads", [{}, *HEADS])
@pytest.mark.parametrize("cosine", [False, True])
def test_cross_entropies_equal_the_peers(peer, heads, cosine):
    theirs, ours = pair(peer, codebook_dim=4 if heads else 8, use_cosine_sim=cosine, **heads)
    x = torch.randn(2, 15, 8)
    targets = torch.randint(16, (2, 15, 2) if heads else (2, 15))
    targets[0, 3:] = -1
    theirs.eval(), ours.eval()
    _, expected = theirs(x, indices=targets)
    quantized, found = ours(x, targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(quantized, ours(x)[0])


DIVERSE = {"codebook_diversity_loss_weight": 0.3, "codebook_diversity_temperature": 2.0}
CROSSED = {"commitment_use_cross_entropy_loss": True}
SCORED = (DIVERSE, CROSSED)
ORTHOGONAL = {"orthogonal_reg_weight": 0.3}
FLAT, IMAGE = ((30, 8), {}), ((2, 8, 5, 6), {"accept_image_fmap": True})
SEQUENCE, SHARED, SEPARATE = (
    ((2, 30, 8), heads)
    for heads in (
        {},
        {"heads": 2, "codebook_dim": 4},
        {"heads": 2, "codebook_dim": 4, "separate_codebook_per_head": True},
    )
)


@pytest.mark.parametrize(
    ("extra", "learned", "given"),
    [
        # The peer fails for cross-entropies of other shapes, and learns codes to be orthogonal.
        *((DIVERSE, False, given) for given in (SEQUENCE, FLAT, IMAGE, SHARED, SEPARATE)),
        *((DIVERSE, True, given) for given in (SEQUENCE, FLAT, IMAGE, SHARED)),
        *((CROSSED, False, given) for given in (SEQUENCE, SHARED, SEPARATE)),
        *((CROSSED, True, given) for given in (SEQUENCE, SHARED)),
        (ORTHOGONAL, True, SEQUENCE),
        (ORTHOGONAL, True, FLAT),
        (ORTHOGONAL | {"orthogonal_reg_active_codes_only": True}, True, SEQUENCE),
    ],
)
def test_other_losses_equal_the_peers(peer, extra, learned, given):
    """Those of the codes before their step, and of positions over the batch and the heads."""
    shape, layout = given
    own = {"learnable_codebook": True, "ema_update": False} if learned else {}
    theirs, ours = pair(peer, **extra, **own, **layout)
    x = torch.randn(shape)
    *_, expected, parts = theirs(x, return_loss_breakdown=True)
    *_, found, own = ours(x, return_loss_breakdown=True)
    torch.testing.assert_close(found, expected.reshape(()), rtol=1e-4, atol=1e-5)
    for a, b in zip(own, parts, strict=True):
        torch.testing.assert_close(a, b.reshape(()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extra", [*SCORED, {"orthogonal_reg_weight": 1.0}])
@pytest.mark.parametrize("restart", [{}, {"threshold_ema_dead_code": 2}])
def test_a_layer_may_be_used_twice_before_the_backward_pass(extra, restart):
    torch.manual_seed(0)
    vq = VectorQuantize(dim=8, codebook_size=16, **extra, **restart)
    x = torch.randn(2, 30, 8, requires_grad=True)
    sum(vq(x)[2] for _ in range(2)).backward()
    assert x.grad.isfinite().all() and x.grad.any()


@pytest.mark.parametrize("extra", SCORED)
def test_masked_tokens_are_left_out_of_the_scores(extra):
    torch.manual_seed(0)
    vq, mask = VectorQuantize(dim=8, codebook_size=16, **extra), torch.rand(3, 20) < 0.5
    mask[:, 7] = False
    x, losses = torch.randn(3, 20, 8), []
    for other in (0.0, 100.0, torch.nan):
        again = copy.deepcopy(vq)
        z = x.where(mask.unsqueeze(-1), other).requires_grad_()
        losses.append(again(z, mask=mask)[2])
        losses[-1].backward()
        assert z.grad.isfinite().all()
    assert losses[0] == losses[1] == losses[2] != 0
    assert vq(x, mask=torch.zeros_like(mask))[2] == 0


@pytest.mark.parametrize("extra", SCORED)
def test_frozen_codes_get_no_gradient_from_any_loss(extra):
    vq = VectorQuantize(dim=8, codebook_size=16, learnable_codebook=True, ema_update=False, **extra)
    vq(torch.randn(2, 30, 8, requires_grad=True), freeze_codebook=True)[2].backward()
    assert all(p.grad is None or not p.grad.any() for p in vq.parameters())


def test_without_active_codes_there_is_no_orthogonality_loss():
    active = {"orthogonal_reg_weight": 0.3, "orthogonal_reg_active_codes_only": True}
    vq = VectorQuantize(8, 16, **active)
    loss = vq(torch.randn(2, 5, 8), mask=torch.zeros(2, 5, dtype=torch.bool))[2]
    loss.sum().backward()
    assert loss.sum() == 0


def test_orthogonal_codes_have_no_loss_and_it_pushes_codes_apart():
    vq = VectorQuantize(4, 4, orthogonal_reg_weight=1.0, commitment_weight=0.0)
    vq.codebook = 3 * torch.eye(4)
    assert vq(torch.randn(10, 4))[2].abs() < 1e-6
    vq.codebook = torch.ones(4, 4) + 0.1 * torch.randn(4, 4)
    vq(torch.randn(10, 4))[2].backward()
    assert next(vq.layers[0].codebook.parameters()).grad.abs().sum() > 0


def test_codes_are_drawn_in_training_only():
    torch.manual_seed(0)
    vq = VectorQuantize(8, 16, stochastic_sample_codes=True, sample_codebook_temp=100.0)
    x = torch.randn(200, 8)
    best = vq.quantizer.encode(x)
    assert (vq(x, freeze_codebook=False)[1] != best).float().mean() > 0.5
    assert torch.equal(vq.eval()(x)[1], vq.quantizer.encode(x))


def test_no_gradient_reaches_the_input_through_the_codes_if_not_routed():
    vq = VectorQuantize(8, 16, route_gradients_to_input=False, commitment_weight=0.0)
    x = torch.randn(20, 8, requires_grad=True)
    quantized, _, loss = vq(x)
    (quantized.sum() + loss).backward() if quantized.requires_grad else loss.backward()
    assert not x.grad.any()


def test_projected_vectors_are_normalized():
    vq = VectorQuantize(8, 16, 4, layernorm_after_project_in=True)
    z = vq.project_in(torch.randn(20, 8))
    torch.testing.assert_close(z.mean(-1), torch.zeros(20), rtol=0, atol=1e-5)
    assert vq(torch.randn(2, 5, 8))[0].shape == (2, 5, 8)


@pytest.mark.parametrize("still", [{"freeze_codebook": True}, {"ema_update": False}])
def test_a_pass_without_an_update_has_no_weights(still):
    vq = VectorQuantize(8, 16)
    vq(torch.randn(50, 8))
    before = {name: value.clone() for name, value in vq.state_dict().items()}
    for _ in range(3):
        vq(torch.randn(50, 8), ema_update_weight=torch.ones(16), **still)
    for name, value in vq.state_dict().items():
        assert torch.equal(value, before[name]), name
