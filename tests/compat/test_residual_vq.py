"""Residual layers: against sums of levels, and against the peer where that is installed."""

import pytest
import torch
import torch.nn.functional as F

from rotvq.compat import GroupedResidualVQ, ResidualSimVQ, ResidualVQ, SimVQ
from rotvq.errors import UserError
from rotvq.quantization import EMA, ResidualQuantizer, VectorQuantizer


def layer(**more):
    torch.manual_seed(0)
    return ResidualVQ(**({"dim": 8, "num_quantizers": 3, "codebook_size": 16} | more))


def test_a_frozen_pass_places_only_the_levels_that_wait_for_data():
    vq = layer(kmeans_init=True, quantize_dropout=True)
    seed = next(s for s in range(99) if vq.number_of_levels(s, torch.device("cpu")) == 1)
    x = torch.randn(2, 60, 8)
    vq(10 + x, rand_quantize_dropout_fixed_seed=seed)
    first = vq.codebooks[0].clone()
    for _ in range(2):
        vq(x, freeze_codebook=True)
        assert torch.equal(vq.codebooks[0], first)
    assert all(codebook.ready for codebook in vq.quantizer.codebooks)
    # The second level codes what the first one leaves of these vectors.
    rest = x - vq.get_codes_from_indices(vq(x, freeze_codebook=True)[1])[0]
    assert (vq.codebooks[1].mean(0) - rest.mean((0, 1))).norm() < 3


@pytest.mark.parametrize("projected", [{}, {"codebook_dim": 4}])
def test_all_codes_are_those_of_the_pass_and_not_of_its_step(projected):
    vq = layer(**projected)
    z = torch.randn(2, 60, 8)
    quantized, indices, _, codes = vq(z, return_all_codes=True)
    torch.testing.assert_close(vq.project_out(codes.sum(0)), quantized)
    assert not torch.allclose(vq.get_codes_from_indices(indices), codes)
    vq = layer(quantize_dropout=True)
    for seed in range(4):
        *_, indices, _, codes = vq(z, return_all_codes=True, rand_quantize_dropout_fixed_seed=seed)
        left_out = (indices < 0).movedim(-1, 0)
        assert codes.shape == (3, 2, 60, 8) and not codes[left_out].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_output_of_indices_is_that_of_the_pass_in_any_precision(dtype):
    vq = layer(codebook_dim=4).to(dtype).eval()
    quantized, indices, _ = vq(torch.randn(2, 20, 8, dtype=dtype))
    assert torch.equal(vq.get_output_from_indices(indices), quantized)


def test_it_is_a_residual_quantizer():
    vq = layer(commitment_weight=0.5)
    torch.manual_seed(0)
    own = ResidualQuantizer([VectorQuantizer(16, 8, update=EMA(0.8)) for _ in range(3)])
    x = torch.randn(2, 20, 8)
    quantized, indices, losses = vq(x)
    out = own(x)
    assert torch.equal(quantized, out.z_q) and torch.equal(indices, out.indices)
    torch.testing.assert_close(losses.mean(), 0.5 * out.commitment_loss)
    assert losses.shape == (3,) and torch.equal(vq.codebooks[1], own.quantizers[1].tables[0])


@pytest.mark.parametrize("layout", [{}, {"accept_image_fmap": True}, {"channel_last": False}])
@pytest.mark.parametrize("codebook_dim", [None, 4])
def test_layouts_codes_and_outputs_from_indices(layout, codebook_dim):
    vq = layer(codebook_dim=codebook_dim, **layout).eval()
    shape = {"accept_image_fmap": (2, 8, 3, 4), "channel_last": (2, 8, 12)}
    x = torch.randn(shape[next(iter(layout))] if layout else (2, 12, 8))
    quantized, indices, losses, codes = vq(x, return_all_codes=True)
    assert quantized.shape == x.shape and not losses.any()
    assert indices.shape[-1] == 3 and codes.shape == (3, *indices.shape[:-1], codebook_dim or 8)
    back = vq.get_output_from_indices(indices)
    torch.testing.assert_close(back if not layout else back.movedim(-1, 1), quantized)
    first = vq.get_output_from_indices(indices[..., :1])
    torch.testing.assert_close(first, vq.project_out(codes[0]))


def test_dropped_levels_have_no_index_no_loss_and_no_update():
    vq = layer(quantize_dropout=True)
    before = vq.codebooks.clone()
    seen = set()
    for seed in range(8):
        _, indices, losses = vq(torch.randn(2, 9, 8), rand_quantize_dropout_fixed_seed=seed)
        number = int((indices[0, 0] >= 0).sum())
        seen.add(number)
        assert (indices[..., :number] >= 0).all() and (indices[..., number:] == -1).all()
        assert not losses[number:].any() and losses[:number].all()
        moved = [not torch.equal(a, b) for a, b in zip(vq.codebooks, before, strict=True)]
        assert moved[:number] == [True] * number
        before = vq.codebooks.clone()
        assert vq.get_output_from_indices(indices).shape == (2, 9, 8)
    assert seen == {1, 2, 3}
    assert (vq.eval()(torch.randn(2, 9, 8))[1] >= 0).all()


def test_the_number_of_levels_is_rounded_up():
    vq = layer(num_quantizers=6, quantize_dropout=True, quantize_dropout_multiple_of=4)
    numbers = {int((vq(torch.randn(1, 4, 8))[1][0, 0] >= 0).sum()) for _ in range(20)}
    assert numbers == {4, 6}


def test_sizes_of_each_level_and_a_shared_codebook():
    vq = layer(num_quantizers=None, codebook_size=(5, 12, 20))
    assert [len(codes) for codes in vq.codebooks] == [5, 12, 20]
    shared = layer(shared_codebook=True)
    assert len(shared.quantizer.codebooks) == 1
    shared(torch.randn(4, 10, 8))
    assert torch.equal(shared.codebooks[0], shared.codebooks[2])


@pytest.mark.parametrize("frozen", [{"freeze_codebook": True}, {"decay": 1.0}])
def test_frozen_codes_stay_but_are_placed_by_the_first_batch(frozen):
    vq = layer(kmeans_init=True, **frozen)
    vq(torch.randn(2, 50, 8))
    before = vq.codebooks.clone()
    vq(torch.randn(2, 50, 8))
    assert torch.equal(vq.codebooks, before) and vq.quantizer.training


@pytest.mark.parametrize("zeros", [True, False])
def test_masked_tokens(zeros):
    vq = layer(return_zeros_for_masked_padding=zeros).eval()
    x, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 3 + [False] * 2] * 2)
    quantized, indices, _ = vq(x, mask)
    assert (indices[~mask] == -1).all()
    assert torch.equal(quantized[~mask], torch.zeros(4, 8) if zeros else x[~mask])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"heads": 2}, "heads: expected 1; got 2. Use GroupedResidualVQ"),
        ({"diveq": True}, "diveq: expected False; got True"),
        (
            {"implicit_neural_codebook": True, "use_cosine_sim": True},
            "use_cosine_sim: expected False; got True",
        ),
        ({"beam_size": 4}, "beam_size: expected None; got 4"),
        ({"no_such": 4}, "no_such: expected an argument of VectorQuantize; got an unknown one"),
        ({"num_quantizers": None}, "num_quantizers: expected a number of levels"),
        ({"codebook_size": (4, 5)}, r"codebook_size: expected 3 sizes; got \(4, 5\)"),
        ({"quantize_dropout_cutoff_index": 3}, "quantize_dropout_cutoff_index: expected 0 to"),
    ],
)
def test_what_is_not_supported_is_refused(asked, message):
    with pytest.raises(UserError, match=message):
        layer(**asked)


@pytest.mark.parametrize("shared", [False, True])
def test_implicit_codebooks_choose_the_nearest_of_codes_that_depend_on_the_levels_before(shared):
    vq = layer(implicit_neural_codebook=True, shared_codebook=shared, mlp_kwargs={"depth": 2})
    x = torch.randn(2, 6, 8)
    quantized, indices, losses = vq(x)
    residual, total = x.double(), torch.zeros(2, 6, 8)
    for i in range(3):
        codes = vq.codebooks[i].expand(2, 6, 16, 8)
        if i:
            codes = vq.implicit.networks[i - 1](codes, total.unsqueeze(2))
        assert torch.equal(
            (residual.unsqueeze(2) - codes).square().sum(-1).argmin(-1), indices[..., i]
        )
        code = codes.gather(2, indices[..., i, None, None].expand(-1, -1, 1, 8)).squeeze(2)
        torch.testing.assert_close(losses[i].double(), (residual - code).square().mean())
        residual, total = residual - code, total + code
    torch.testing.assert_close(quantized, total)
    torch.testing.assert_close(vq.get_output_from_indices(indices), quantized)
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in vq.parameters())


@pytest.mark.parametrize("implicit", [False, True])
def test_indices_of_more_levels_than_there_are_are_refused(implicit):
    vq = layer(implicit_neural_codebook=implicit)
    with pytest.raises(UserError, match="indices: expected at most 3 in the last dimension"):
        vq.get_codes_from_indices(torch.zeros(1, 5, 4, dtype=torch.int64))


def test_implicit_codebooks_work_in_bfloat16():
    vq = layer(implicit_neural_codebook=True).bfloat16()
    quantized, indices, _ = vq(torch.randn(2, 6, 8, dtype=torch.bfloat16))
    assert quantized.dtype == torch.bfloat16
    assert vq.get_codes_from_indices(indices).shape == (3, 2, 6, 8)


def test_implicit_codebooks_learn_and_leave_masked_tokens_out():
    vq = layer(implicit_neural_codebook=True, mlp_kwargs={"depth": 1})
    optimizer = torch.optim.Adam(vq.parameters(), 0.01)
    x = torch.randn(4, 20, 8)
    first = (x - vq(x)[0]).square().mean()
    for _ in range(40):
        optimizer.zero_grad()
        vq(x)[2].sum().backward()
        optimizer.step()
    assert (x - vq(x)[0]).square().mean() < 0.7 * first
    mask = torch.arange(20).expand(4, 20) < 12
    quantized, indices, losses = vq(x.where(mask.unsqueeze(-1), 1e3), mask)
    packed, packed_indices, packed_losses = vq(x[:, :12])
    torch.testing.assert_close(quantized[:, :12], packed)
    torch.testing.assert_close(losses, packed_losses)
    assert torch.equal(indices[:, :12], packed_indices) and (indices[~mask] == -1).all()
    assert not quantized[~mask].any()


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_values_equal_the_peers(library, cosine, shared):
    arguments = {"dim": 8, "num_quantizers": 3, "codebook_size": 16, "commitment_weight": 0.3}
    arguments |= {"use_cosine_sim": cosine, "shared_codebook": shared}
    theirs, ours = library.ResidualVQ(**arguments), ResidualVQ(**arguments)
    with torch.no_grad():
        for level, own in zip(theirs.layers, ours.quantizer.quantizers, strict=True):
            codes = level._codebook.embed.normal_()
            own.codebook.set_codes(F.normalize(codes, dim=-1)[0] if cosine else codes[0])
            level._codebook.embed.copy_(own.codebook.embeddings)
    x = torch.randn(2, 20, 8)
    if shared:  # in training, the peer moves a frozen codebook that levels share
        theirs.eval(), ours.eval()
    expected = theirs(x, freeze_codebook=True, return_all_codes=True)
    found = ours(x, freeze_codebook=True, return_all_codes=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_one_level():
    vq = layer(rotation_trick=False, commitment_weight=0.0)
    x, g = torch.randn(2, 20, 8, requires_grad=True), torch.randn(2, 20, 8)
    (vq(x)[0] * g).sum().backward()
    assert torch.equal(x.grad, g)


def test_groups_equal_the_peers_in_shape_and_ours_in_value(library):
    arguments = {"dim": 8, "groups": 2, "num_quantizers": 3, "codebook_size": 16}
    x = torch.randn(2, 20, 8)
    theirs, ours = library.GroupedResidualVQ(**arguments), GroupedResidualVQ(**arguments)
    expected, found = theirs.eval()(x), ours.eval()(x)
    assert [t.shape for t in found] == [t.shape for t in expected]
    for group in range(2):
        own = ours.rvqs[group](x[..., 4 * group : 4 * group + 4])
        assert torch.equal(found[1][group], own[1])
    torch.testing.assert_close(ours.get_output_from_indices(found[1]), found[0])
    assert ours.codebooks.shape == (2, 3, 16, 4)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(UserError, match="groups: expected a divisor of dim 8; got 3"):
        GroupedResidualVQ(dim=8, groups=3, num_quantizers=2, codebook_size=4)


@pytest.mark.parametrize("channel_first", [False, True])
@pytest.mark.parametrize("rotates", [False, True])
def test_sim_vq_equals_the_peers(library, channel_first, rotates):
    arguments = {"dim": 8, "codebook_size": 16, "rotation_trick": rotates}
    theirs = library.SimVQ(**arguments, channel_first=channel_first)
    ours = SimVQ(**arguments, channel_first=channel_first)
    ours.quantizer.codebook.set_codes(theirs.codebook)
    x = torch.randn((2, 8, 3, 4) if channel_first else (2, 12, 8))
    results = []
    for vq in (theirs, ours):
        leaf = x.clone().requires_grad_()
        quantized, indices, loss = vq(leaf)
        (loss + quantized.square().sum()).backward()
        results.append((quantized, indices, loss, leaf.grad, vq.indices_to_codes(indices)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


def test_residual_sim_vq(library):
    arguments = {"dim": 8, "num_quantizers": 3, "codebook_size": 16, "channel_first": True}
    theirs, ours = library.ResidualSimVQ(**arguments), ResidualSimVQ(**arguments)
    for level, own in zip(theirs.layers, ours.layers, strict=True):
        own.quantizer.codebook.set_codes(level.codebook)
    x = torch.randn(2, 8, 3, 4)
    expected, found = (vq(x, return_all_codes=True) for vq in (theirs, ours))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.get_output_from_indices(found[1]), found[0])
