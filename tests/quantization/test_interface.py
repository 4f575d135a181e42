"""The protocol that every quantizer meets, and the result of its forward pass."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from every_quantizer import (
    OF_EACH_KIND,
    D,
    K,
    assert_same_state,
    each,
    leaves,
    made,
    state,
    vectors,
)
from torch.utils import _pytree

from rotvq.quantization import (
    BinarySphericalQuantizer,
    Codebook,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    LookupFreeQuantizer,
    Quantized,
    Quantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from rotvq.quantization.estimators import straight_through


@each(OF_EACH_KIND)
def test_sizes_and_shapes_describe_the_indices(make):
    quantizer = made(make)
    assert isinstance(quantizer, Quantizer)
    z = vectors(quantizer, 2, 50)
    out = quantizer.eval()(z)
    assert out.indices.shape == (2, 50, *quantizer.index_shape)
    sizes = quantizer.codebook_sizes
    by_position = out.indices.flatten(2) if quantizer.index_shape else out.indices.unsqueeze(2)
    assert len(sizes) == by_position.shape[2] and quantizer.codebook_size == max(sizes)
    for position, size in enumerate(sizes):
        assert by_position[..., position].max() < size


@each({name: make for name, make in OF_EACH_KIND.items() if "2**32" not in name})
@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_rows_of_the_tables_add_up_to_the_codes(make, channel_dim):
    quantizer = made(make, channel_dim=channel_dim)
    sizes = quantizer.codebook_sizes
    assert [tuple(table.shape) for table in quantizer.tables] == [(k, quantizer.dim) for k in sizes]
    assert all(table.dtype == torch.float32 for table in quantizer.tables)
    rows = torch.stack([torch.randint(k, (2, 30)) for k in sizes], -1)
    indices = rows.view(2, 30, *quantizer.index_shape)
    pairs = zip(quantizer.tables, rows.unbind(-1), strict=True)
    added = sum(table[index] for table, index in pairs)
    torch.testing.assert_close(added.movedim(-1, channel_dim), quantizer.lookup(indices))


@each({name: make for name, make in OF_EACH_KIND.items() if "2**32" not in name})
def test_assigned_codes_are_exact_and_only_the_optimizer_moves_them(make):
    quantizer = made(make).train()
    before = state(quantizer)
    z = vectors(quantizer, 2, 30).requires_grad_()
    sizes = quantizer.codebook_sizes
    rows = torch.stack([torch.randint(k, (2, 30)) for k in sizes], -1)
    indices = rows.view(2, 30, *quantizer.index_shape)
    out = quantizer.assigned(z, indices)
    codes = quantizer.lookup(indices)
    assert torch.equal(out.z_q, codes) and torch.equal(out.indices, indices)
    g = torch.randn_like(z)
    out.z_q.backward(g)
    assert z.grad.abs().sum() > 0
    for parameter in quantizer.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
    assert_same_state(quantizer, before, rtol=0, atol=0)


@each({name: make for name, make in OF_EACH_KIND.items() if "resid" not in name})
def test_assigning_the_nearest_codes_is_a_forward_pass(make):
    """Of several levels, the losses of a forward pass are those of each level."""
    quantizer = made(make).eval()
    for each_one in leaves(quantizer):
        if hasattr(each_one, "estimator"):
            each_one.estimator = straight_through
    z = vectors(quantizer, 2, 30)
    found = []
    for run in (quantizer, lambda z: quantizer.assigned(z, quantizer.encode(z))):
        at = z.clone().requires_grad_()
        out = run(at)
        (out.z_q.square().sum() + out.commitment_loss).backward()
        found.append([out.z_q, out.indices, out.commitment_loss, out.codebook_loss, at.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_of_an_assigned_code_is_the_sum_over_its_vectors():
    quantizer = VectorQuantizer(4, 3, update=GradientLearned())
    indices = torch.tensor([[0, 2, 2]])
    g = torch.randn(1, 3, 3)
    quantizer.assigned(torch.randn(1, 3, 3), indices).z_q.backward(g)
    expected = torch.zeros(4, 3)
    expected[0], expected[2] = g[0, 0], g[0, 1] + g[0, 2]
    torch.testing.assert_close(quantizer.codebook.embeddings.grad, expected)


def test_sizes_are_flattened_in_the_order_of_the_index_shape():
    def layers(*sizes):
        return ResidualQuantizer([VectorQuantizer(size, 3) for size in sizes])

    quantizer = GroupedQuantizer([layers(4, 5), layers(6, 7)])
    assert quantizer.codebook_sizes == (4, 5, 6, 7) and quantizer.codebook_size == 7
    assert quantizer.index_shape == (2, 2) and quantizer.dim == 6
    assert VectorQuantizer(9, 3).codebook_sizes == (9,)
    assert FiniteScalarQuantizer([3, 2, 4]).codebook_sizes == (24,)


def test_codebooks_lists_each_codebook_once():
    single = VectorQuantizer(K, D)
    assert single.codebooks == (single.codebook,)
    assert FiniteScalarQuantizer([3, 2]).codebooks == ()
    levels = [VectorQuantizer(K, D) for _ in range(3)]
    assert ResidualQuantizer(levels).codebooks == tuple(level.codebook for level in levels)
    levels[2].codebook = levels[0].codebook
    shared = ResidualQuantizer(levels)
    assert shared.codebooks == (levels[0].codebook, levels[1].codebook)
    assert all(isinstance(codebook, Codebook) for codebook in shared.codebooks)


@each(OF_EACH_KIND)
def test_a_deferred_update_waits_for_its_call(make):
    quantizer = made(make)
    assert not quantizer.defer_update
    quantizer.defer_update = True
    assert quantizer.defer_update
    counts = [codebook.cluster_size.clone() for codebook in quantizer.codebooks]

    def moved() -> list[bool]:
        pairs = zip(quantizer.codebooks, counts, strict=True)
        return [not torch.equal(codebook.cluster_size, before) for codebook, before in pairs]

    quantizer(vectors(quantizer, 50))
    assert not any(moved())
    quantizer.update_codebook()
    assert all(moved())
    quantizer.defer_update = False
    counts = [codebook.cluster_size.clone() for codebook in quantizer.codebooks]
    quantizer(vectors(quantizer, 50))
    assert all(moved())


def test_a_composite_defers_only_if_all_its_quantizers_do():
    levels = [VectorQuantizer(K, D, defer_update=defer) for defer in (True, False)]
    quantizer = ResidualQuantizer(levels)
    assert not quantizer.defer_update
    quantizer.defer_update = True
    assert quantizer.defer_update and levels[1].defer_update


# The result


def result() -> Quantized:
    numbers = (torch.tensor(x) for x in (2.0, 3.0, 5.0))
    return Quantized(torch.zeros(4, D), torch.zeros(4, dtype=torch.int64), *numbers)


def test_the_loss_is_the_weighted_sum():
    assert result().loss() == 3 + 0.25 * 2
    assert result().loss(beta=2.0, entropy_weight=10.0) == 3 + 2 * 2 + 10 * 5


def test_the_result_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'z_q'"):
        result().z_q = torch.ones(1)
    assert dataclasses.replace(result(), indices=torch.ones(1)).indices == 1


def test_the_result_is_a_pytree():
    out = result()
    leaves, structure = _pytree.tree_flatten(out)
    assert all(a is b for a, b in zip(leaves, vars(out).values(), strict=True))
    back = _pytree.tree_unflatten(leaves, structure)
    assert isinstance(back, Quantized) and back.indices is out.indices


def test_torch_func_maps_over_whole_results():
    quantizer = VectorQuantizer(K, D).eval()
    z = torch.randn(3, 5, D)
    out = torch.func.vmap(quantizer)(z)
    assert isinstance(out, Quantized) and out.commitment_loss.shape == (3,)
    assert torch.equal(out.indices, quantizer(z).indices)


@each({name: OF_EACH_KIND[name] for name in ("vq rotation ema", "fsq", "residual", "grouped")})
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_exported_forward_pass_returns_whole_results(make):
    quantizer = made(make).eval()
    z = vectors(quantizer, 9)
    batch = ({0: torch.export.Dim("batch")},)
    out = torch.export.export(quantizer, (z,), dynamic_shapes=batch).module()(z[:4])
    assert isinstance(out, Quantized)
    torch.testing.assert_close(vars(out), vars(quantizer(z[:4])))


@pytest.mark.parametrize("channel_dim", [1, -1])
def test_vectors_as_they_are_compared_with_codes(channel_dim):
    place = {"channel_dim": channel_dim}
    z = 3 * torch.randn(2, 6, 6, 6)
    unit = F.normalize(z, dim=channel_dim)
    cosine = VectorQuantizer(8, 6, metric="cosine", **place)
    for quantizer in (cosine, BinarySphericalQuantizer(6, **place), ResidualQuantizer([cosine])):
        torch.testing.assert_close(quantizer.compared(z), unit)
    halves = z.split(3, channel_dim)
    groups = [VectorQuantizer(8, 3, **place), BinarySphericalQuantizer(3, **place)]
    expected = torch.cat([halves[0], F.normalize(halves[1], dim=channel_dim)], channel_dim)
    torch.testing.assert_close(GroupedQuantizer(groups).compared(z), expected)
    assert torch.equal(VectorQuantizer(8, 6, **place).compared(z), z)
    assert torch.equal(LookupFreeQuantizer(6, **place).compared(z), z)
